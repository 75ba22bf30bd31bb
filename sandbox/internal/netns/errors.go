// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
)

// Error says which part of the namespace could not be made. Nothing is left of it.
type Error struct {
	Part string // such as "network namespace", "nftables tproxy", "listeners"
	Err  error
	fix  string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Part, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Fix is what the user can do about it.
func (e *Error) Fix() string { return e.fix }

func fail(part, fix string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Part: part, Err: err, fix: fix}
}

// allFailed is the error of the best mechanism, which its fix would help, with that of the last one.
func allFailed(first, last error) error {
	var best *Error
	if first == last || !errors.As(first, &best) {
		return first
	}
	return fail(best.Part, best.fix, fmt.Errorf("%w; and %w", best.Err, last))
}

// The fixes, by what is missing.
const (
	fixNamespace = "the limit of network namespaces may be reached or set to 0: sysctl user.max_net_namespaces=15000"
	fixLink      = "the network namespace must allow its owner to configure it; an outer sandbox may refuse netlink"
	fixTables    = "nftables must be there: modprobe nf_tables (CONFIG_NF_TABLES_INET)"
	fixTProxy    = "modprobe nft_tproxy (CONFIG_NFT_TPROXY)"
	fixNAT       = "modprobe nft_nat nft_ct (CONFIG_NFT_NAT, CONFIG_NFT_CT), or better nft_tproxy (CONFIG_NFT_TPROXY)"
	fixSocket    = "modprobe nft_socket (CONFIG_NFT_SOCKET)"
	fixListen    = "the kernel must have CONFIG_NETFILTER_XT_TARGET_TPROXY or CONFIG_NFT_TPROXY; an outer sandbox may refuse IP_TRANSPARENT"
	fixDiag      = "an outer sandbox may refuse netlink sockets"
)
