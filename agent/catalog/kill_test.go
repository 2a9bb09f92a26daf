package catalog

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
)

// writerChild counts up: each Update writes record n into two tables and deletes n-20, then n is acknowledged on
// standard output. It ends only by being killed.
func writerChild(path string) error {
	b, err := OpenBolt(path, BoltOptions{})
	if err != nil {
		return err
	}
	last := -1
	err = b.View(func(tx Tx) error {
		return tx.Each(Types.name, func(key string, _ []byte) error {
			last, err = strconv.Atoi(key)
			return err
		})
	})
	for n := last + 1; err == nil; n++ {
		err = b.Update(func(tx Tx) error {
			return errors.Join(
				tx.Put(Volumes.name, number(n), fmt.Appendf(nil, "%0*d", 1+n%5000, n)),
				tx.Put(Types.name, number(n), []byte("type")),
				tx.Delete(Volumes.name, number(n-20)))
		})
		if err == nil {
			fmt.Println(n)
		}
	}
	return err
}

func number(n int) string { return fmt.Sprintf("%09d", n) }

// TestKill kills a writer at random moments. What it acknowledged is there afterwards, and nothing is there by half.
func TestKill(t *testing.T) {
	path, acknowledged := storePath(t), -1
	for range 8 {
		cmd := child(t, "writer", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, count := bufio.NewScanner(out), 1+rand.IntN(60)
		for lines.Scan() {
			if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
			if count--; count == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		b := openBolt(t, path, BoltOptions{})
		checkWriter(t, b, acknowledged)
		if b.Restored() {
			t.Error("a store whose agent was killed counts as restored")
		}
		closeBolt(t, b)
	}
}

// checkWriter checks the two tables against each other and against what was acknowledged.
func checkWriter(t *testing.T, b *Bolt, acknowledged int) {
	t.Helper()
	all, err := texts(b)
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for all[Types.name+"/"+number(last+1)] != "" {
		last++
	}
	if last < acknowledged {
		t.Errorf("the last record is %d, acknowledged was %d", last, acknowledged)
	}
	want := last + 1 + min(20, last+1)
	for n := max(0, last-19); n <= last; n++ {
		if text := all[Volumes.name+"/"+number(n)]; text != fmt.Sprintf("%0*d", 1+n%5000, n) {
			t.Errorf("record %d is %.40q", n, text)
		}
	}
	if len(all) != want {
		t.Errorf("%d records up to %d, want %d", len(all), last, want)
	}
}
