package api

func childRequests() []string { return nil }
func childMain([]string)      {}
