package main

import (
	configurationredis "github.com/dapr/components-contrib/configuration/redis"
	"github.com/dapr/components-contrib/nameresolution/mdns"
	"github.com/dapr/components-contrib/nameresolution/nameformat"
	pubsubredis "github.com/dapr/components-contrib/pubsub/redis"
	secretfile "github.com/dapr/components-contrib/secretstores/local/file"
	stateredis "github.com/dapr/components-contrib/state/redis"
	"github.com/dapr/kit/logger"

	"github.com/dapr/dapr/pkg/components/bindings"
	"github.com/dapr/dapr/pkg/components/configuration"
	"github.com/dapr/dapr/pkg/components/conversation"
	"github.com/dapr/dapr/pkg/components/crypto"
	"github.com/dapr/dapr/pkg/components/lock"
	"github.com/dapr/dapr/pkg/components/middleware/http"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/secretstores"
	"github.com/dapr/dapr/pkg/components/state"
	"github.com/dapr/dapr/pkg/runtime/registry"

	"github.com/foremesh/foremesh/edge/sidecar/addressbook"
	"github.com/foremesh/foremesh/edge/sidecar/consul"
	"github.com/foremesh/foremesh/edge/sidecar/etcd"
)

// components returns the registry the runtime loads from: what the mesh uses, and nothing else. A component file
// that asks for anything more fails at start with Dapr's own message that names the missing component.
func components() *registry.Options {
	contrib := logger.NewLogger("dapr.contrib")

	state.DefaultRegistry.Logger = contrib
	state.DefaultRegistry.RegisterComponent(stateredis.NewRedisStateStore, "redis")

	pubsub.DefaultRegistry.Logger = contrib
	pubsub.DefaultRegistry.RegisterComponent(pubsubredis.NewRedisStreams, "redis")

	configuration.DefaultRegistry.Logger = contrib
	configuration.DefaultRegistry.RegisterComponent(configurationredis.NewRedisConfigurationStore, "redis")
	configuration.DefaultRegistry.RegisterComponent(etcd.New, etcd.Name)
	configuration.DefaultRegistry.RegisterComponent(consul.New, consul.Name)

	secretstores.DefaultRegistry.Logger = contrib
	secretstores.DefaultRegistry.RegisterComponent(secretfile.NewLocalSecretStore, "local.file")

	// addressbook: several replicas on one machine. nameformat: one address per app-id, as in docker compose. mdns:
	// Dapr's default, so that the overlay for an installed daprd can be tried without one.
	nameresolution.DefaultRegistry.Logger = contrib
	nameresolution.DefaultRegistry.RegisterComponent(mdns.NewResolver, "mdns")
	nameresolution.DefaultRegistry.RegisterComponent(addressbook.New, addressbook.Name)
	nameresolution.DefaultRegistry.RegisterComponent(nameformat.NewResolver, "nameformat")

	return registry.NewOptions().
		WithStateStores(state.DefaultRegistry).
		WithPubSubs(pubsub.DefaultRegistry).
		WithConfigurations(configuration.DefaultRegistry).
		WithSecretStores(secretstores.DefaultRegistry).
		WithNameResolutions(nameresolution.DefaultRegistry).
		// The runtime asks each of these for its components; they stay empty.
		WithLocks(lock.DefaultRegistry).
		WithBindings(bindings.DefaultRegistry).
		WithCryptoProviders(crypto.DefaultRegistry).
		WithHTTPMiddlewares(http.DefaultRegistry).
		WithConversations(conversation.DefaultRegistry)
}
