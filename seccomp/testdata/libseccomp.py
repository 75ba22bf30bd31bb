# SPDX-License-Identifier: Apache-2.0
# Builds filters with libseccomp and prints each as one line of hexadecimal digits. Standard input is JSON: a list of
# {"allow": bool, "rules": [{"nr": N, "args": [[argument, mask, value], ...]}]}, where allow is what is done by default, and
# the rules have the other: to refuse is ERRNO(1).
import json, os, seccomp, sys

REFUSE = seccomp.ERRNO(1)
for spec in json.load(sys.stdin):
    default, other = (seccomp.ALLOW, REFUSE) if spec["allow"] else (REFUSE, seccomp.ALLOW)
    f = seccomp.SyscallFilter(defaction=default)
    for rule in spec["rules"]:
        f.add_rule_exactly(other, rule["nr"], *[seccomp.Arg(a, seccomp.MASKED_EQ, m, v) for a, m, v in rule["args"] or []])
    fd = os.memfd_create("filter")
    with os.fdopen(fd, "w+b") as out:
        f.export_bpf(out)
        out.seek(0)
        print(out.read().hex())
