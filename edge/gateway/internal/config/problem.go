package config

import (
	"fmt"
	"strings"
)

// Problem is something wrong with the files.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"` // 0: of the whole file or folder
	Text string `json:"text"`
	// Refused: nothing of the folder is served. Otherwise everything else is, and what this part says is answered as
	// Gateway API asks for.
	Refused bool `json:"refused"`
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems is an error that holds at least one that is refused.
type Problems []Problem

func (p Problems) Error() string {
	var lines []string
	for _, one := range p {
		if one.Refused {
			lines = append(lines, one.String())
		}
	}
	return strings.Join(lines, "\n")
}

func (p Problems) refused() bool {
	for _, one := range p {
		if one.Refused {
			return true
		}
	}
	return false
}
