// Command print shows what the linker wrote.
package main

import (
	"fmt"

	"github.com/cvold/cvold/internal/version"
)

func main() { fmt.Println(version.Version(), version.Commit()) }
