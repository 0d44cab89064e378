package config

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one YAML document of a file, with blank lines for what stands before it: line numbers in errors are
// then the file's own.
type document struct {
	file string
	raw  []byte
	node yaml.Node
}

// documents splits a file at its `---` lines, and leaves out what holds nothing but comments.
func documents(file string, raw []byte) []document {
	var all []document
	lines := bytes.SplitAfter(raw, []byte("\n"))
	begin, empty := 0, true
	for i := 0; i <= len(lines); i++ {
		if i < len(lines) {
			line := bytes.TrimSpace(lines[i])
			if !bytes.HasPrefix(lines[i], []byte("---")) {
				empty = empty && (len(line) == 0 || line[0] == '#')
				continue
			}
		}
		if !empty {
			padded := append(bytes.Repeat([]byte("\n"), begin), bytes.Join(lines[begin:i], nil)...)
			all = append(all, document{file: file, raw: padded})
		}
		begin, empty = i+1, true
	}
	return all
}

// at returns a problem that is refused; line 0 is the document's first.
func (d *document) at(line int, format string, args ...any) *Problem {
	if line == 0 {
		line = d.begin()
	}
	return &Problem{File: d.file, Line: line, Text: fmt.Sprintf(format, args...), Refused: true}
}

// begin is the document's first line with something in it.
func (d *document) begin() int { return 1 + len(d.raw) - len(bytes.TrimLeft(d.raw, "\n")) }

// where is the document's place, as file:line.
func (d *document) where(path ...any) string {
	line := d.line(path...)
	if line == 0 {
		line = d.begin()
	}
	return fmt.Sprintf("%s:%d", d.file, line)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s+)?line (\d+): `)

// parse reads the document as a tree, which knows the line of each of its parts.
func (d *document) parse() *Problem {
	err := yaml.Unmarshal(d.raw, &d.node)
	if err == nil {
		return nil
	}
	var line int
	text := err.Error()
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		_, _ = fmt.Sscan(found[1], &line)
		text = strings.TrimPrefix(text, found[0])
	}
	return d.at(line, "not YAML: %s", text)
}

var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)
var wrongType = regexp.MustCompile(`Go struct field (\S+) of type`)

// blame adds the line to an error of the strict decoder, which knows only names.
func (d *document) blame(kind string, err error) *Problem {
	text := err.Error()
	if found := unknownField.FindStringSubmatch(text); found != nil {
		path := strings.Split(found[1], ".") // Kubernetes' decoder gives the whole path, encoding/json the last name
		return d.at(lineOfKey(&d.node, path[len(path)-1]), "%s: field '%s' is not known; remove it or correct its name", kind, found[1])
	}
	if found := wrongType.FindStringSubmatch(text); found != nil {
		path := strings.Split(found[1], ".")
		name := path[len(path)-1]
		return d.at(lineOfKey(&d.node, name), "%s: field '%s' has a value of the wrong type: %s", kind, name, text)
	}
	for _, prefix := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: ", "while decoding JSON: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	var line int
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		_, _ = fmt.Sscan(found[1], &line)
		text = strings.TrimPrefix(text, found[0])
	}
	return d.at(line, "%s: %s", kind, text)
}

// lineOfKey is the line of the first key of that name, 0 if there is none.
func lineOfKey(node *yaml.Node, name string) int {
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 && child.Value == name {
			return child.Line
		}
		if line := lineOfKey(child, name); line > 0 {
			return line
		}
	}
	return 0
}

// line is that of the part which a path of keys and indices leads to, or of the last one on the way that exists.
func (d *document) line(path ...any) int {
	node, line := &d.node, 0
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	for _, step := range path {
		var next *yaml.Node
		switch step := step.(type) {
		case int:
			if node.Kind == yaml.SequenceNode && step < len(node.Content) {
				next = node.Content[step]
				line = next.Line
			}
		case string:
			for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
				if node.Content[i].Value == step {
					next, line = node.Content[i+1], node.Content[i].Line
				}
			}
		}
		if next == nil {
			return line
		}
		node = next
	}
	return line
}
