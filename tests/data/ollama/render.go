// Renders the Go template FILE with each conversation of stdin (a JSON list), as Ollama does: collated
// messages, the function `json`, missing keys as zero. Prints a JSON list of texts.
//
//	go run tests/data/ollama/render.go TEMPLATE < conversations.json
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"text/template"
)

type call struct {
	Function struct {
		Name      string
		Arguments map[string]any
	}
}

type message struct {
	Role      string
	Content   string
	ToolCalls []call `json:"tool_calls"`
}

type tool struct {
	Function struct {
		Name        string
		Description string
		Parameters  any
	}
}

type conversation struct {
	Messages []message
	Tools    []tool
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func collated(messages []message) (kept []message) {
	for _, m := range messages {
		last := len(kept) - 1
		if last >= 0 && kept[last].Role == m.Role && m.Role != "tool" {
			kept[last].Content += "\n\n" + m.Content
		} else {
			kept = append(kept, m)
		}
	}
	return kept
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	must(err)
	functions := template.FuncMap{"json": func(v any) string {
		b, _ := json.Marshal(v)
		return string(b)
	}}
	parsed, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(string(text))
	must(err)
	var conversations []conversation
	must(json.NewDecoder(os.Stdin).Decode(&conversations))
	texts := []string{}
	for _, c := range conversations {
		var out bytes.Buffer
		must(parsed.Execute(&out, map[string]any{"Messages": collated(c.Messages), "Tools": c.Tools}))
		texts = append(texts, out.String())
	}
	printer := json.NewEncoder(os.Stdout)
	printer.SetEscapeHTML(false)
	printer.SetIndent("", " ")
	must(printer.Encode(texts))
}
