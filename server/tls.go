package server

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate reads a certificate from files and reads it again when they change,
// so that a renewal needs no restart.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex // guards below
	cert   *tls.Certificate
	stamp  time.Time // of the newer file
	looked time.Time
}

// lookEvery is how often the files' times are read at most.
const lookEvery = 10 * time.Second

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.cert, nil
	}
	c.looked = time.Now()
	if err := c.loadLocked(); err != nil {
		if c.cert == nil {
			return nil, err
		}
		c.log.Error("the changed certificate cannot be used; the old one stays", "error", err)
	}
	return c.cert, nil
}

func (c *certificate) loadLocked() error {
	var stamp time.Time
	for _, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if info.ModTime().After(stamp) {
			stamp = info.ModTime()
		}
	}
	if c.cert != nil && stamp.Equal(c.stamp) {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.cert, c.stamp = &cert, stamp
	return nil
}

// tlsConfig fails at once when the files cannot be used.
func tlsConfig(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}, nil
}
