# SPDX-License-Identifier: Apache-2.0

GO      ?= go
PREFIX  ?= /usr/local
# Static: cgo is there for libcontainer's nsenter alone, so names and users are looked up by Go's own code.
TAGS    := urfave_cli_no_docs,netgo,osusergo
LDFLAGS := -s -w -linkmode external -extldflags "-static"

.PHONY: build demo test guest stress bench fuzz lint install clean

build: ## bin/agentjail, one static binary
	CGO_ENABLED=1 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/agentjail ./cmd/agentjail

demo: ## a confined run to watch; installs what is missing
	bash integration/demo.sh

test: ## everything: lint, unit tests, black-box tests as an ordinary user and as root; installs what is missing
	bash integration/test.sh

guest: ## limits on cgroup v2 with systemd, and an older kernel, in a virtual machine; minutes, 1 GB
	bash integration/guest.sh

stress: ## the races of the black-box tests at full length, and a real OpenTelemetry collector
	bash integration/setup.sh collector
	AGENTJAIL_STRESS=1000 bash integration/test.sh integration 'TestStress|TestO06|Scripts/(log-otlp|G16)'

bench: ## ratios against the bare command and against other jails
	bash integration/bench.sh

fuzz: ## every fuzz target, FUZZTIME each
	bash integration/fuzz.sh

lint: ## gofmt, vet and staticcheck
	bash integration/test.sh lint

install: build
	install -D -m 0755 bin/agentjail $(DESTDIR)$(PREFIX)/bin/agentjail

clean:
	rm -rf bin
