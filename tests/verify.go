// Checks an export of an Arbiter log with nothing of Arbiter's: the note and tlog packages of golang.org/x/mod, which
// Go's own checksum database is checked with.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run verify.go DIR KEY
//
// The export must be of the whole log. It says OK, or exits with what does not hold.
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type hashes []tlog.Hash

func (known hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(known)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		found[i] = known[index]
	}
	return found, nil
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// checkpoint gives the size and root that a note signs, which the key must have signed.
func checkpoint(signed []byte, key note.Verifier) tlog.Tree {
	opened, err := note.Open(signed, note.VerifierList(key))
	must(err)
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if origin != key.Name() {
		log.Fatalf("a checkpoint of %s, not of %s", origin, key.Name())
	}
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	must(err)
	return tree
}

func main() {
	log.SetFlags(0)
	folder := os.Args[1]
	key, err := note.NewVerifier(os.Args[2])
	must(err)
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(folder, name))
		must(err)
		return data
	}

	entries := bytes.Split(bytes.TrimSuffix(read("entries.jsonl"), []byte("\n")), []byte("\n"))
	var known hashes
	for i, entry := range entries {
		made, err := tlog.StoredHashes(int64(i), entry, known)
		must(err)
		known = append(known, made...)
	}

	tree := checkpoint(read("checkpoint"), key)
	if tree.N != int64(len(entries)) {
		log.Fatalf("%d entries, the checkpoint signs %d", len(entries), tree.N)
	}
	root, err := tlog.TreeHash(tree.N, known)
	must(err)
	if root != tree.Hash {
		log.Fatal("the entries are not those that the checkpoint signs")
	}

	trees := 0
	for _, line := range bytes.Split(bytes.TrimSuffix(read("checkpoints.jsonl"), []byte("\n")), []byte("\n")) {
		var told struct{ Note string }
		must(json.Unmarshal(line, &told))
		old := checkpoint([]byte(told.Note), key)
		proof, err := tlog.ProveTree(tree.N, old.N, known)
		must(err)
		must(tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash))
		trees++
	}

	if data, err := os.ReadFile(filepath.Join(folder, "consistency.json")); err == nil {
		var told struct {
			Old, New int64
			Path     []string
		}
		must(json.Unmarshal(data, &told))
		var proof tlog.TreeProof
		for _, step := range told.Path {
			var hash tlog.Hash
			_, err := hex.Decode(hash[:], []byte(step))
			must(err)
			proof = append(proof, hash)
		}
		old, err := tlog.TreeHash(told.Old, known)
		must(err)
		must(tlog.CheckTree(proof, told.New, tree.Hash, told.Old, old))
	}

	for i, entry := range entries {
		proof, err := tlog.ProveRecord(tree.N, int64(i), known)
		must(err)
		must(tlog.CheckRecord(proof, tree.N, tree.Hash, int64(i), tlog.RecordHash(entry)))
	}
	fmt.Printf("OK %d entries, %d checkpoints\n", len(entries), trees)
}
