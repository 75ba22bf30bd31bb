// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const sshPort = "22"

// makeHostKey makes the key that all of the test's ssh servers have, which lives as long as the suite.
func (s *servers) makeHostKey() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	s.hostKey, err = ssh.NewSignerFromKey(key)
	return err
}

// knownHosts is what ssh compares the servers with, sshd(8) SSH_KNOWN_HOSTS FILE FORMAT. Whoever is in between has another key.
func (s *servers) knownHosts() []byte {
	return append([]byte("* "), ssh.MarshalAuthorizedKey(s.hostKey.PublicKey())...)
}

// serveSSH serves ssh at an address, to whoever has a key.
func (s *servers) serveSSH(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(s.hostKey)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Minute))
				s.serveSSHConn(c, config)
			}()
		}
	}()
	return nil
}

// serveSSHConn runs the sessions of one connection (RFC 4254 section 6), one after the other.
func (s *servers) serveSSHConn(c net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for asked := range channels {
		if asked.ChannelType() != "session" {
			asked.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		session, requests, err := asked.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			var command struct{ Text string }
			if r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil {
				r.Reply(false, nil)
				continue
			}
			r.Reply(true, nil)
			s.note("ssh " + command.Text)
			status := struct{ Code uint32 }{runOverSSH(command.Text, session)}
			session.SendRequest("exit-status", false, ssh.Marshal(status))
			session.Close()
		}
	}
}

// gitCommand is what git asks of a server, git-shell(1).
var gitCommand = regexp.MustCompile(`^git[ -](upload-pack|receive-pack) '([^']+)'$`)

// runOverSSH is a command's exit status. The commands are git's two, and all others do the same: say what was asked, and repeat the input.
func runOverSSH(command string, session ssh.Channel) uint32 {
	git := gitCommand.FindStringSubmatch(command)
	if git == nil {
		io.WriteString(session, "ran "+strings.TrimSpace(command)+"\n")
		io.Copy(session, session)
		return 0
	}
	c := exec.Command("git", git[1], git[2])
	c.Stdout, c.Stderr = session, session.Stderr()
	in, err := c.StdinPipe()
	if err != nil || c.Start() != nil {
		return 127
	}
	// By hand: Wait would wait for the input's end, and git ends before its client does.
	go func() {
		io.Copy(in, session)
		in.Close()
	}()
	var ended *exec.ExitError
	if err := c.Wait(); errors.As(err, &ended) {
		return uint32(ended.ExitCode())
	} else if err != nil {
		return 1
	}
	return 0
}
