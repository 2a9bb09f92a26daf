package agent

import (
	"fmt"
	"time"

	"github.com/cvold/cvold/agent/config"
	"github.com/cvold/cvold/internal/pki"
)

// certificateWarning is how long before its end a certificate is warned of.
const certificateWarning = 30 * 24 * time.Hour

// Warnings are sentences on what of a configuration can be used, and wants to be seen to: those of the configuration
// itself, and certificates that end soon. Like Check it changes nothing; what Check refuses is not in it.
func Warnings(c *config.Config) []string {
	all := c.Warnings()
	if c.CertFile == "" {
		return all
	}
	credentials, err := loadCredentials(c)
	if err != nil {
		return all
	}
	for _, e := range ending(credentials) {
		err := fmt.Errorf("ends %s, in %d days: %s", e.at.UTC().Format(time.RFC3339), int(time.Until(e.at).Hours())/24, e.wayOut)
		all = append(all, c.Wrong("cvold", e.option, err).Error())
	}
	return all
}

// end is one certificate's.
type end struct {
	at                    time.Time
	option, owner, wayOut string
}

// ending are the certificates that end soon, or have ended since they were read.
func ending(credentials *pki.Credentials) []end {
	var soon []end
	for _, e := range []end{
		{credentials.NotAfter(), "cert_file", "this node", "make a new one with cvol pki renew"},
		{credentials.AuthorityNotAfter(), "ca_file", "the authority that signed this node's",
			"make a new authority with cvol pki init, put its certificate beside the old one in ca_file, then issue new ones for all nodes"},
	} {
		if time.Until(e.at) < certificateWarning {
			soon = append(soon, e)
		}
	}
	return soon
}
