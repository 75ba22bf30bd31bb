// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/agentjail/agentjail/profiles"
)

// devices are the nodes of /dev that programs expect; none leads to hardware.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// devLinks are the links of /dev that programs expect (null(4), fd(4), pts(4)).
var devLinks = map[string]string{
	"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
}

// sysDirs are the parts of /sys that runtimes read: the processors, to size their pools, and whether the kernel uses huge pages
// by itself, which every Go program and every JVM looks up when it starts.
var sysDirs = []string{"/sys/devices/system/cpu", "/sys/kernel/mm/transparent_hugepage"}

// sysLinks are links of the system that lead to what no run has. They are there inside, so that what is asked for through one is on
// record by its own name: a socket of the host's, say, and not the link.
var sysLinks = []string{"/var/lock", "/var/run"}

// system adds what every run has: /dev, /tmp, what runtimes read of /sys, and the files of /etc that name the caller.
func (c *compiler) system() error {
	mounts := []Mount{
		{Kind: Tmpfs, Target: "/dev", Dir: true, Mode: 0o755},
		{Kind: Pts, Target: "/dev/pts", Dir: true},
		{Kind: Tmpfs, Target: "/dev/shm", Dir: true, Writable: true, Mode: 0o1777},
		{Kind: Tmpfs, Target: "/tmp", Dir: true, Writable: true, Mode: 0o1777},
		{Kind: Tmpfs, Target: "/var/tmp", Dir: true, Writable: true, Mode: 0o1777},
	}
	for _, name := range devices {
		mounts = append(mounts, Mount{Kind: Device, Target: "/dev/" + name, Source: "/dev/" + name})
	}
	for _, dir := range sysDirs {
		if info, err := c.host.Files.Lstat(dir); err == nil && info.IsDir() {
			mounts = append(mounts, Mount{Kind: Bind, Target: dir, Source: dir, Dir: true})
		}
	}
	for _, link := range sysLinks {
		if to, err := c.host.Files.Readlink(link); err == nil {
			c.link(link, to)
		}
	}
	for path, content := range identityFiles(c.host) {
		mounts = append(mounts, Mount{Kind: File, Target: path, Content: content})
	}
	for _, m := range mounts {
		m.Origin = "system"
		if err := c.add(m); err != nil {
			return err
		}
	}
	return nil
}

// provided adds the files that agentjail writes for the policy. Where the host's are shown an embedded profile gives way.
func (c *compiler) provided() error {
	files := c.policy.Files()
	for _, path := range slices.Sorted(maps.Keys(files.Provide)) {
		optional := slices.Contains(files.Optional, path)
		switch {
		case !c.taken(path):
		case optional:
			continue
		default:
			return requestErrorf("provide %q: the run has another file there already, or what holds it is granted; leave out one", path)
		}
		c.entries = append(c.entries, entry{key: "provide", entry: path, target: path, embedded: optional})
		if err := c.add(Mount{Kind: File, Target: path, Content: files.Provide[path], Origin: originPolicy}); err != nil {
			return err
		}
	}
	return nil
}

// taken tells whether the run finds something at a path, or nothing can be put there.
func (c *compiler) taken(path string) bool {
	for link := range c.symlinks {
		if within(link, path) {
			return true
		}
	}
	return c.covering(path) != nil || slices.ContainsFunc(c.mounts, func(m Mount) bool { return within(path, m.Target) || m.Kind == File && within(m.Target, path) })
}

// identityFiles are the files of /etc that say who and where the command is, without the host's other users and names.
func identityFiles(host Host) map[string]string {
	id := host.Identity
	passwd := fmt.Sprintf("%s:x:%d:%d:%s:%s:/bin/sh\n", id.User, id.UID, id.GID, id.User, id.Home)
	group := fmt.Sprintf("%s:x:%d:\n", id.Group, id.GID)
	if id.UID != 0 {
		passwd = "root:x:0:0:root:/:/bin/sh\n" + passwd
	}
	if id.GID != 0 {
		group = "root:x:0:\n" + group
	}
	passwd += "nobody:x:65534:65534:nobody:/:/bin/false\n"
	group += "nogroup:x:65534:\n"
	return map[string]string{
		"/etc/passwd":      passwd,
		"/etc/group":       group,
		"/etc/hostname":    hostnameInside + "\n",
		"/etc/hosts":       "127.0.0.1 localhost " + hostnameInside + "\n::1 localhost ip6-localhost ip6-loopback\n",
		"/etc/resolv.conf": "# Every query is answered by agentjail's gateway.\nnameserver 127.0.0.53\noptions timeout:2 attempts:2\n",
	}
}

// busyDirs are the private directories of a home that are mounted natively: caches with very many files, and the counters that
// each process of the go command maps. Every working directory has its own: what builds and installs trust must not come from the
// command of another project. The others are served by the union, which records every look at what the host's home has
// there, and lets programs of the host's be mounted into it: people keep some in ~/go/bin and ~/.bun/bin.
var busyDirs = []string{
	".cache", ".npm", ".gradle", ".bun/install", ".yarn/berry", ".pnpm-store", ".local/share/pnpm/store", "go/pkg", ".config/go/telemetry",
	".cargo/registry", ".cargo/git", ".m2/repository", ".nuget/packages", ".ccache",
}

// privateHome decides where HOME is kept.
func (c *compiler) privateHome() error {
	if home := c.host.Identity.Home; home != "/root" && slices.Contains(refusedDirs, home) || isKernelPath(home) {
		return requestErrorf("the home directory %q is one of the system; set HOME to a directory of the user's own", home)
	}
	files := c.policy.Files()
	c.home = Home{
		Private: filepath.Join(c.host.State, "homes", c.policy.Name()),
		Caches:  filepath.Join(c.host.State, "caches", c.policy.Name(), projectKey(c.dir)),
	}
	if files.Home == "ephemeral" {
		// Start fills in the run's own directory.
		c.home = Home{Ephemeral: true, Private: ephemeralHome, Caches: ephemeralHome}
	}
	c.global = c.globalSettings()
	c.home.Git = c.gitIdentity()
	for _, path := range files.Private {
		c.home.Names = append(c.home.Names, strings.TrimPrefix(path, "~/"))
	}
	return nil
}

// projectKey is the name under which the caches of a working directory are kept: one that people know again, and a hash of its
// canonical path.
func projectKey(dir string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '_'
	}, filepath.Base(dir))
	hash := sha256.Sum256([]byte(dir))
	return fmt.Sprintf("%.32s-%x", name, hash[:8])
}

// mountHome mounts what of the private home the run's root does not serve: its busy directories, or all of it where the home lies
// in a directory that is the run's own, or the root serves nothing.
func (c *compiler) mountHome() error {
	home := c.host.Identity.Home
	busy := c.busy()
	c.home.Mounted = slices.ContainsFunc(c.mounts, func(m Mount) bool { return m.Kind == Tmpfs && within(m.Target, home) })
	if c.home.Mounted || c.host.WithoutFUSE != "" {
		if err := c.add(Mount{Kind: Bind, Target: home, Source: c.home.Private, Dir: true, Writable: true, Origin: originHome}); err != nil {
			return err
		}
	}
	for _, name := range c.pinned(busy) {
		c.home.Pinned = append(c.home.Pinned, name)
		err := c.add(Mount{
			Kind: Bind, Target: filepath.Join(home, name), Source: filepath.Join(c.home.Private, name), Dir: true, Writable: true, Origin: originHome,
		})
		if err != nil {
			return err
		}
	}
	for _, dir := range busy {
		c.home.Dirs = append(c.home.Dirs, dir)
		err := c.add(Mount{
			Kind: Bind, Target: filepath.Join(home, dir), Source: filepath.Join(c.home.Caches, dir), Dir: true, Writable: true, Origin: originHome,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pinned are the directories of a home that is mounted as a whole which lead to busy ones, or would be busy. A command that could move
// one away could put a link in its place, and so its own directory in that of every project's caches.
func (c *compiler) pinned(busy []string) (names []string) {
	if !c.home.Mounted && c.host.WithoutFUSE == "" {
		return nil
	}
	for _, dir := range busyDirs {
		for at := dir; at != "."; at = filepath.Dir(at) {
			above := c.covering(filepath.Join(c.host.Identity.Home, at))
			if above != nil && above.Origin == originHome && !slices.Contains(busy, at) && !slices.Contains(names, at) {
				names = append(names, at)
			}
		}
	}
	return names
}

// busy are the busy directories that are mounted. One that lies in a grant is the host's; one that something of the host's is mounted
// into, such as a program in ~/.cache, or linked, is served as the rest of the private home is.
func (c *compiler) busy() (dirs []string) {
	files := c.policy.Files()
	for _, dir := range busyDirs {
		host := filepath.Join(c.host.Identity.Home, dir)
		private := slices.ContainsFunc(files.Private, func(path string) bool { return within(path, "~/"+dir) })
		linked := func(at string) bool { return within(host, at) || within(at, host) }
		if !private || c.covering(host) != nil || slices.ContainsFunc(c.mounts, func(m Mount) bool { return within(host, m.Target) }) ||
			slices.ContainsFunc(slices.Collect(maps.Keys(c.symlinks)), linked) {
			continue
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// ephemeralHome stands for the run's own directory in plans of runs that keep no home.
const ephemeralHome = "/run-home"

// environment is what the command gets: what the policy passes, and what the run itself decides.
func (c *compiler) environment(passed []string) []string {
	id := c.host.Identity
	set := map[string]string{"HOME": id.Home, "USER": id.User, "LOGNAME": id.User, "PWD": c.dir, "AGENTJAIL": "1"}
	if c.policy.Proxy() {
		maps.Copy(set, profiles.ProxyEnvironment())
	}
	for name, value := range c.policy.Environment().Set {
		set[name] = value
	}
	env := slices.DeleteFunc(slices.Clone(passed), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		_, ours := set[name]
		return ours || name == "OLDPWD"
	})
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	if !hasVariable(env, "PATH") {
		env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin")
	}
	slices.Sort(env)
	return env
}

func hasVariable(env []string, name string) bool {
	return slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
}

// secrets are the withheld variables that look like a credential. Their values go no further than this function. Those of a proxy
// that the gateway uses are not withheld from anybody who needs them.
func secrets(environ, withheld []string, proxied bool) []string {
	var out []string
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if proxied && profiles.IsProxyVariable(name) {
			continue
		}
		if slices.Contains(withheld, name) && profiles.LooksSecret(name, value) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
