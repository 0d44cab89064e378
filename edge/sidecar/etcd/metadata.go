package etcd

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/dapr/kit/metadata"

	"github.com/foremesh/foremesh/edge/sidecar/endpoint"
)

// Metadata of the component.
type Metadata struct {
	Endpoints      string        `mapstructure:"endpoints"`      // http(s)://host:port, with commas between them
	Prefix         string        `mapstructure:"prefix"`         // of the keys, which go without it
	Username       string        `mapstructure:"username"`       // empty: none
	Password       string        `mapstructure:"password"`       // by secretKeyRef
	CACert         string        `mapstructure:"caCert"`         // PEM; empty: the system's
	ClientCert     string        `mapstructure:"clientCert"`     // PEM
	ClientKey      string        `mapstructure:"clientKey"`      // PEM, by secretKeyRef
	DialTimeout    time.Duration `mapstructure:"dialTimeout"`    // of a connection
	RequestTimeout time.Duration `mapstructure:"requestTimeout"` // of a call

	endpoints endpoint.List
}

func read(properties map[string]string) (Metadata, error) {
	m := Metadata{DialTimeout: 2 * time.Second, RequestTimeout: 2 * time.Second}
	err := metadata.DecodeMetadata(properties, &m)
	switch {
	case err != nil:
		return m, err
	case m.Prefix == "":
		return m, errors.New("needs metadata 'prefix', such as /foremesh/: only keys below it are read")
	case (m.Username == "") != (m.Password == ""):
		return m, errors.New("metadata 'username' and 'password' go together; give both or none")
	case m.DialTimeout <= 0 || m.RequestTimeout <= 0:
		return m, errors.New("metadata 'dialTimeout' and 'requestTimeout' must be positive durations such as 2s")
	}
	m.endpoints, err = endpoint.Parse(m.Endpoints, endpoint.TLS{CA: m.CACert, Certificate: m.ClientCert, Key: m.ClientKey}, m.Password != "")
	return m, err
}

func (m *Metadata) dial() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: m.endpoints.Addresses, TLS: m.endpoints.Config, Username: m.Username, Password: m.Password,
		DialTimeout: m.DialTimeout, DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAlive, PermitWithoutStream: true,
		MaxCallRecvMsgSize: 4 << 20,
		// What fails is said by who asked; gRPC's own waits grow to two minutes.
		Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 2 * time.Second},
			MinConnectTimeout: m.DialTimeout,
		})},
		Context: context.Background(),
	})
}
