// Command vectors holds our Merkle trees, checkpoints and proofs against Go's own implementation of them,
// golang.org/x/mod/sumdb/note and .../tlog.
//
//	go run . generate > ../audit_tree.json    write the vectors the Python tests read
//	go run . check < case.json                check a checkpoint and proofs that Python made
package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index  int64       `json:"index"`
	Size   int64       `json:"size"`
	Hashes []tlog.Hash `json:"hashes"`
}

type consistency struct {
	Old    int64       `json:"old"`
	New    int64       `json:"new"`
	Hashes []tlog.Hash `json:"hashes"`
}

type document struct {
	Key         string        `json:"private_key,omitempty"`
	Verifier    string        `json:"verifier_key"`
	Notes       []string      `json:"notes"`
	Records     [][]byte      `json:"records"`
	Roots       []tlog.Hash   `json:"roots,omitempty"` // of the first 1, 2, ... records
	Inclusion   []inclusion   `json:"inclusion"`
	Consistency []consistency `json:"consistency"`
}

// tree keeps the hashes of a log in memory.
type tree struct{ hashes []tlog.Hash }

func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = t.hashes[index]
	}
	return found, nil
}

func grow(records [][]byte) (*tree, []tlog.Hash, error) {
	t := &tree{}
	var roots []tlog.Hash
	for n, record := range records {
		added, err := tlog.StoredHashes(int64(n), record, t)
		if err != nil {
			return nil, nil, err
		}
		t.hashes = append(t.hashes, added...)
		root, err := tlog.TreeHash(int64(n)+1, t)
		if err != nil {
			return nil, nil, err
		}
		roots = append(roots, root)
	}
	return t, roots, nil
}

func check() error {
	var given document
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		return err
	}
	_, roots, err := grow(given.Records)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(given.Verifier)
	if err != nil {
		return err
	}
	for _, text := range given.Notes {
		opened, err := note.Open([]byte(text), note.VerifierList(verifier))
		if err != nil {
			return err
		}
		lines := strings.Split(opened.Text, "\n")
		var size int64
		if len(lines) != 4 || lines[0] != verifier.Name() {
			return fmt.Errorf("not a checkpoint of %s: %q", verifier.Name(), opened.Text)
		}
		if _, err := fmt.Sscanf(lines[1], "%d", &size); err != nil || size < 1 || size > int64(len(roots)) {
			return fmt.Errorf("size %q", lines[1])
		}
		if lines[2] != roots[size-1].String() {
			return fmt.Errorf("the root of %d records is %s, not %s", size, roots[size-1], lines[2])
		}
	}
	for _, p := range given.Inclusion {
		leaf := tlog.RecordHash(given.Records[p.Index])
		if err := tlog.CheckRecord(p.Hashes, p.Size, roots[p.Size-1], p.Index, leaf); err != nil {
			return fmt.Errorf("inclusion of %d in %d: %w", p.Index, p.Size, err)
		}
	}
	for _, p := range given.Consistency {
		if err := tlog.CheckTree(p.Hashes, p.New, roots[p.New-1], p.Old, roots[p.Old-1]); err != nil {
			return fmt.Errorf("consistency of %d with %d: %w", p.Old, p.New, err)
		}
	}
	fmt.Printf("%d notes, %d inclusion, %d consistency\n",
		len(given.Notes), len(given.Inclusion), len(given.Consistency))
	return nil
}

func generate() error {
	// The inputs of Certificate Transparency's reference tests, then more of our own.
	inputs := []string{"", "\x00", "\x10", "\x20\x21", "\x30\x31", "\x40\x41\x42\x43",
		"\x50\x51\x52\x53\x54\x55\x56\x57", "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"}
	var made document
	for _, input := range inputs {
		made.Records = append(made.Records, []byte(input))
	}
	for n := len(inputs); n < 21; n++ {
		made.Records = append(made.Records, []byte(fmt.Sprintf(`{"decision_id":"d-%d"}`, n)))
	}
	t, roots, err := grow(made.Records)
	if err != nil {
		return err
	}
	made.Roots = roots
	for _, size := range []int64{1, 2, 3, 7, 8, 13, 21} {
		for index := int64(0); index < size; index++ {
			hashes, err := tlog.ProveRecord(size, index, t)
			if err != nil {
				return err
			}
			made.Inclusion = append(made.Inclusion, inclusion{index, size, hashes})
		}
		for old := int64(1); old <= size; old++ {
			hashes, err := tlog.ProveTree(size, old, t)
			if err != nil {
				return err
			}
			made.Consistency = append(made.Consistency, consistency{old, size, hashes})
		}
	}
	const name = "zt-agents/audit/000102030405060708090a0b0c0d0e0f"
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize) // a key for tests: everybody knows it
	skey, vkey, err := note.GenerateKey(bytes.NewReader(seed), name)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return err
	}
	made.Key, made.Verifier = skey, vkey
	for _, size := range []int{1, 8, 21} {
		root := base64.StdEncoding.EncodeToString(roots[size-1][:])
		signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", name, size, root)}, signer)
		if err != nil {
			return err
		}
		made.Notes = append(made.Notes, string(signed))
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(made)
}

func main() {
	run := map[string]func() error{"check": check, "generate": generate}
	err := errors.New("say check or generate")
	if len(os.Args) == 2 && run[os.Args[1]] != nil {
		err = run[os.Args[1]]()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
