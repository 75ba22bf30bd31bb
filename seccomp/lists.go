// SPDX-License-Identifier: Apache-2.0

package seccomp

// allowList are the calls that act on the caller's own process, memory, files and sockets, or on what the run's namespaces
// hold. What some of them may be asked to do is limited by argumentRules.
const allowList = `
accept accept4 access adjtimex alarm arch_prctl brk cachestat capget capset chdir clock_adjtime clock_getres
clock_gettime clock_nanosleep clone close close_range copy_file_range dup dup2 dup3 epoll_create epoll_create1 epoll_ctl
epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
faccessat2 fadvise64 fallocate fchdir fcntl fdatasync fgetxattr file_getattr flistxattr flock fork fstat fstatfs
fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu getcwd
getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid
getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self lgetxattr listmount listxattr listxattrat llistxattr lseek lsm_get_self_attr
lsm_list_modules lstat madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync
munlock munlockall munmap nanosleep newfstatat open openat pause personality pidfd_open pidfd_send_signal pipe
pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 pselect6 pwrite64 pwritev
pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages restart_syscall rseq
rseq_slice_yield rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area
set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid
setrlimit setsid setsockopt setuid shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socket socketpair
splice stat statfs statmount statx sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill umask uname
vfork vmsplice wait4 waitid write writev`

// denyList are answered EPERM: they act on the machine, on other processes' memory, on keyrings (which no namespace holds),
// or on mounts and namespaces.
const denyList = `
_sysctl acct add_key afs_syscall bpf chroot clock_settime create_module delete_module fanotify_init fanotify_mark
file_setattr finit_module get_kernel_syms getpmsg init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl
lookup_dcookie lsm_set_self_attr memfd_secret modify_ldt mount name_to_handle_at nfsservctl open_by_handle_at
perf_event_open pidfd_getfd pivot_root process_madvise process_mrelease process_vm_readv process_vm_writev ptrace putpmsg
query_module quotactl quotactl_fd reboot request_key security setdomainname sethostname setns settimeofday swapoff
swapon sysfs syslog tuxcall umount2 unshare uprobe uretprobe uselib userfaultfd ustat vhangup vserver`

// absentList are answered ENOSYS, to which callers have a fallback: calls whose arguments lie behind a pointer, the new
// mount API, io_uring (whose operations pass every filter by), and NUMA policy.
const absentList = `
clone3 fsconfig fsmount fsopen fspick get_mempolicy io_uring_enter io_uring_register io_uring_setup listns mbind
migrate_pages mount_setattr move_mount move_pages open_tree open_tree_attr openat2 removexattrat set_mempolicy
set_mempolicy_home_node setxattrat`

// writeList are the calls that change what a path names.
const writeList = `
bind chmod chown creat fchmod fchmodat fchmodat2 fchown fchownat fremovexattr fsetxattr futimesat lchown link linkat
lremovexattr lsetxattr mkdir mkdirat mknod mknodat removexattr rename renameat renameat2 rmdir setxattr symlink symlinkat
truncate unlink unlinkat utime utimensat utimes`

// connectList is carried out by the Supervisor.
const connectList = `connect`

// listenList is shown to the Supervisor.
const listenList = `listen`
