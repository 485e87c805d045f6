// Reads documents through the generated models, and prints what the models write: ../test_languages.py.
package main

import (
	"encoding/json"
	"os"
	"regexp"

	customers "github.com/GIT_USER_ID/GIT_REPO_ID"
)

type input struct {
	Patterns  []string
	Documents map[string][]json.RawMessage
}

func model(name string) any {
	switch name {
	case "AddedCustomerEnvelope":
		return new(customers.AddedCustomerEnvelope)
	case "CustomerChanges":
		return new(customers.CustomerChanges)
	case "CustomerEnvelope":
		return new(customers.CustomerEnvelope)
	case "CustomerInput":
		return new(customers.CustomerInput)
	case "CustomerPageEnvelope":
		return new(customers.CustomerPageEnvelope)
	case "DeletedCustomerEnvelope":
		return new(customers.DeletedCustomerEnvelope)
	case "Problem":
		return new(customers.Problem)
	case "UpdatedCustomerEnvelope":
		return new(customers.UpdatedCustomerEnvelope)
	}
	panic(name)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var given input
	must(json.NewDecoder(os.Stdin).Decode(&given))
	for _, pattern := range given.Patterns {
		regexp.MustCompile(pattern)
	}
	written := map[string][]any{}
	for name, documents := range given.Documents {
		for _, document := range documents {
			read := model(name)
			must(json.Unmarshal(document, read))
			written[name] = append(written[name], read)
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(written))
}
