package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// apiServer answers the suite's REST calls from controller-runtime's fake client. The suite makes a new client for each
// test from its REST configuration, so that a fake client alone would be replaced; as an http.RoundTripper it is not.
type apiServer struct {
	client client.Client
	scheme *runtime.Scheme
	mapper meta.RESTMapper
	logs   func(namespace, pod string, since time.Time) ([]byte, bool)

	mu      sync.Mutex
	changed chan struct{} // holds one note that something was written
}

type target struct {
	gvk                        schema.GroupVersionKind
	namespace, name, subObject string
}

func (s *apiServer) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
	}
	status, answer := s.answer(r, body)
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(answer)), ContentLength: int64(len(answer)),
	}, nil
}

func (s *apiServer) answer(r *http.Request, body []byte) (int, []byte) {
	to, err := s.locate(r.URL.Path)
	if err != nil {
		return failure(err)
	}
	if to.subObject == "log" {
		since, _ := time.Parse(time.RFC3339, r.URL.Query().Get("sinceTime"))
		if lines, found := s.logs(to.namespace, to.name, since); found {
			return http.StatusOK, lines
		}
		return failure(apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, to.name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	done, err := s.do(r, to, body)
	if err != nil {
		return failure(err)
	}
	if r.Method != http.MethodGet {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
	out, err := json.Marshal(done)
	if err != nil {
		return failure(err)
	}
	return http.StatusOK, out
}

// locate reads /api/v1/... and /apis/GROUP/VERSION/...
func (s *apiServer) locate(path string) (to target, err error) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var gv schema.GroupVersion
	switch {
	case len(parts) > 2 && parts[0] == "api":
		gv, parts = schema.GroupVersion{Version: parts[1]}, parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		gv, parts = schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:]
	default:
		return to, apierrors.NewBadRequest("no such path: " + path)
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		to.namespace, parts = parts[1], parts[2:]
	}
	to.gvk, err = s.mapper.KindFor(gv.WithResource(parts[0]))
	if err != nil {
		return to, apierrors.NewNotFound(gv.WithResource(parts[0]).GroupResource(), "")
	}
	if len(parts) > 1 {
		to.name = parts[1]
	}
	if len(parts) > 2 {
		to.subObject = parts[2]
	}
	return to, nil
}

func (s *apiServer) do(r *http.Request, to target, body []byte) (runtime.Object, error) {
	ctx := r.Context()
	if r.Method == http.MethodGet && to.name == "" {
		return s.list(r, to)
	}
	made, err := s.scheme.New(to.gvk)
	if err != nil {
		return nil, err
	}
	object := made.(client.Object)
	object.GetObjectKind().SetGroupVersionKind(to.gvk)
	key := types.NamespacedName{Namespace: to.namespace, Name: to.name}
	switch r.Method {
	case http.MethodGet:
		err = s.client.Get(ctx, key, object)
	case http.MethodPost:
		if err := json.Unmarshal(body, object); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		object.SetNamespace(to.namespace)
		object.SetUID(types.UID(uuid.NewString()))
		object.SetCreationTimestamp(metav1.Now())
		object.SetGeneration(1)
		err = s.client.Create(ctx, object)
	case http.MethodPut:
		if err := json.Unmarshal(body, object); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if to.subObject == "status" {
			err = s.client.Status().Update(ctx, object)
			break
		}
		before := object.DeepCopyObject().(client.Object)
		if err := s.client.Get(ctx, key, before); err != nil {
			return nil, err
		}
		object.SetGeneration(before.GetGeneration())
		object.SetUID(before.GetUID())
		object.SetCreationTimestamp(before.GetCreationTimestamp())
		if !sameSpec(before, object) {
			object.SetGeneration(before.GetGeneration() + 1)
		}
		err = s.client.Update(ctx, object)
	case http.MethodPatch:
		before := object.DeepCopyObject().(client.Object)
		if err := s.client.Get(ctx, key, before); err != nil {
			return nil, err
		}
		object.SetName(to.name)
		object.SetNamespace(to.namespace)
		patch := client.RawPatch(types.PatchType(r.Header.Get("Content-Type")), body)
		if to.subObject == "status" {
			err = s.client.Status().Patch(ctx, object, patch)
			break
		}
		if err = s.client.Patch(ctx, object, patch); err == nil && !sameSpec(before, object) {
			object.SetGeneration(before.GetGeneration() + 1)
			err = s.client.Update(ctx, object)
		}
	case http.MethodDelete:
		object.SetName(to.name)
		object.SetNamespace(to.namespace)
		err = s.client.Delete(ctx, object)
	default:
		err = apierrors.NewMethodNotSupported(schema.GroupResource{}, r.Method)
	}
	object.GetObjectKind().SetGroupVersionKind(to.gvk)
	return object, err
}

func (s *apiServer) list(r *http.Request, to target) (runtime.Object, error) {
	made, err := s.scheme.New(to.gvk.GroupVersion().WithKind(to.gvk.Kind + "List"))
	if err != nil {
		return nil, err
	}
	list := made.(client.ObjectList)
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	err = s.client.List(r.Context(), list, &client.ListOptions{Namespace: to.namespace, LabelSelector: selector})
	list.GetObjectKind().SetGroupVersionKind(to.gvk.GroupVersion().WithKind(to.gvk.Kind + "List"))
	return list, err
}

func failure(err error) (int, []byte) {
	status := apierrors.APIStatus(apierrors.NewInternalError(err))
	if known, ok := err.(apierrors.APIStatus); ok {
		status = known
	}
	s := status.Status()
	s.Kind, s.APIVersion = "Status", "v1"
	out, _ := json.Marshal(s)
	return int(s.Code), out
}

// sameSpec tells whether two objects ask for the same: a real server counts generations by that.
func sameSpec(a, b client.Object) bool { return reflect.DeepEqual(spec(a), spec(b)) }

func spec(o client.Object) any {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		panic(fmt.Sprint("not an object: ", err))
	}
	delete(content, "metadata")
	delete(content, "status")
	return content
}
