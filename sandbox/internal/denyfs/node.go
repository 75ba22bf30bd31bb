// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"container/list"
	"hash/fnv"
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxThrough bounds the directories of the host that are remembered at once; files of the home are bounded by their
// descriptors. The kernel forgets both by itself, or because of the evictor.
const maxThrough = 1 << 16

type nodeKind uint8

const (
	nodeMount   nodeKind = iota // the root of the mount, which nobody inside sees
	nodeHides                   // the directory of the hidden nodes, likewise
	nodeTree                    // an entry of the tree
	nodeThrough                 // a directory of the host that can be walked through
	nodeHidden                  // what is bound over a hidden place in a grant
	nodeHome                    // a file of the private home
)

// node is what the kernel knows by a number.
type node struct {
	id    uint64
	kind  nodeKind
	where string // the path, for all but those of the home
	entry *entry // of nodeTree
	dir   bool   // of nodeHidden
	home  homeFile

	// Of nodeThrough and nodeHome, which can be forgotten. All under nodes.mu.
	parent  *node  // where it was looked up last
	name    string // as what
	refs    uint64 // lookups the kernel has not forgotten
	idle    *list.Element
	opens   int
	entered bool
}

// homeFile is a file of the private home.
type homeFile struct {
	fd   int // O_PATH
	key  inodeKey
	mode uint32 // type only
}

type inodeKey struct{ dev, ino uint64 }

// nodes is the table of nodes. Numbers are never used twice.
type nodes struct {
	mu      sync.Mutex
	byID    map[uint64]*node
	through map[string]*node
	home    map[inodeKey]*node
	entries map[*entry]*node
	hidden  []*node
	next    uint64
	most    int        // files of the home
	idle    *list.List // of nodes that can be forgotten, the longest not looked up first
	entered int
	offer   func(eviction)
}

func newNodes(t *Tree, hidden []Hide, offer func(eviction)) *nodes {
	n := &nodes{
		byID:    make(map[uint64]*node),
		through: make(map[string]*node),
		home:    make(map[inodeKey]*node),
		entries: make(map[*entry]*node),
		next:    fuse.FUSE_ROOT_ID,
		most:    descriptors(),
		idle:    list.New(),
		offer:   offer,
	}
	n.add(&node{kind: nodeMount})
	n.add(&node{kind: nodeHides})
	n.addTree(t.root)
	for i, h := range hidden {
		if e := t.hidden[i].entry; e != nil {
			n.addTree(e)
			n.hidden = append(n.hidden, n.entries[e])
			continue
		}
		n.hidden = append(n.hidden, n.add(&node{kind: nodeHidden, where: h.Path, dir: h.Dir}))
	}
	return n
}

// hides is the number of the directory of hidden nodes, the second that newNodes gives out.
const hidesID = fuse.FUSE_ROOT_ID + 1

func (n *nodes) addTree(e *entry) {
	n.entries[e] = n.add(&node{kind: nodeTree, where: e.path, entry: e})
	for _, name := range e.names {
		n.addTree(e.children[name])
	}
}

func (n *nodes) add(new *node) *node {
	new.id = n.next
	n.next++
	n.byID[new.id] = new
	return new
}

// get returns the node of a number, nil if there is none.
func (n *nodes) get(id uint64) *node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byID[id]
}

// walk returns the node of a directory of the host, counted once more; nil if there are too many.
func (n *nodes) walk(path string, parent *node, name string) *node {
	n.mu.Lock()
	defer n.mu.Unlock()
	found := n.through[path]
	if found == nil {
		if len(n.through) >= maxThrough {
			n.evict()
			return nil
		}
		found = n.add(&node{kind: nodeThrough, where: path})
		n.through[path] = found
	}
	n.lookedUp(found, parent, name)
	return found
}

// file returns the node of a file of the private home, counted once more, and takes the descriptor over. It is nil,
// and the descriptor closed, if there are too many.
func (n *nodes) file(f homeFile, parent *node, name string) *node {
	n.mu.Lock()
	defer n.mu.Unlock()
	found := n.home[f.key]
	switch {
	case found != nil:
		unix.Close(f.fd)
	case len(n.home) >= n.most:
		unix.Close(f.fd)
		n.evict()
		return nil
	default:
		found = n.add(&node{kind: nodeHome, home: f})
		n.home[f.key] = found
	}
	n.lookedUp(found, parent, name)
	return found
}

// lookedUp counts a lookup. Callers hold n.mu.
func (n *nodes) lookedUp(found, parent *node, name string) {
	found.parent, found.name = parent, name
	found.refs++
	if found.idle == nil {
		found.idle = n.idle.PushBack(found)
	} else {
		n.idle.MoveToBack(found.idle)
	}
	n.evict()
}

// forget takes back lookups.
func (n *nodes) forget(id, lookups uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	found := n.byID[id]
	if found == nil || found.kind != nodeThrough && found.kind != nodeHome {
		return
	}
	if found.refs > lookups {
		found.refs -= lookups
		return
	}
	n.drop(found)
}

func (n *nodes) drop(found *node) {
	delete(n.byID, found.id)
	n.idle.Remove(found.idle)
	if found.entered {
		n.entered--
	}
	if found.kind == nodeThrough {
		delete(n.through, found.where)
		return
	}
	delete(n.home, found.home.key)
	unix.Close(found.home.fd)
}

// close forgets everything.
func (n *nodes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, found := range n.through {
		n.drop(found)
	}
	for _, found := range n.home {
		n.drop(found)
	}
}

// moved tells the table that a file of the private home has another name.
func (n *nodes) moved(key inodeKey, parent *node, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if found := n.home[key]; found != nil {
		found.parent, found.name = parent, name
	}
}

// path returns a node's path, false if that is longer than a path can be. Two runs that move directories of one
// private home about could even make it endless.
func (n *nodes) path(of *node) (string, bool) {
	if of.kind != nodeHome {
		return of.where, true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	length := 0
	for of.kind == nodeHome {
		names = append(names, of.name)
		length += len(of.name) + 1
		if length >= maxPath {
			return "", false
		}
		of = of.parent
	}
	var b strings.Builder
	b.WriteString(of.where)
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(names[i])
	}
	return b.String(), b.Len() < maxPath
}

// child returns the path of a name in a node, and the errno of a name that cannot be one.
func (n *nodes) child(of *node, name string) (string, unix.Errno) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return "", unix.EINVAL
	}
	dir, ok := n.path(of)
	if !ok || len(name) > maxName || len(dir)+1+len(name) >= maxPath {
		return "", unix.ENAMETOOLONG
	}
	if dir == "/" {
		return "/" + name, 0
	}
	return dir + "/" + name, 0
}

// number is the inode number of a path that no file system has given one: the same at every time, and out of the way
// of those of the private home's file system.
func number(path string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path))
	return 1<<48 | h.Sum64()&(1<<48-1)
}
