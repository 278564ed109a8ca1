package provider

import "fmt"

func newBrand(config Config, _ Options) (Provider, error) {
	return nil, fmt.Errorf("type %q is not known", config.Type)
}
