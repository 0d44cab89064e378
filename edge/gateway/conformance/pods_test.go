package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pods runs the suite's echo server as a process for each pod. All share one machine: what a pod has at port 3000 of its
// own address is somewhere on the loopback address.
type pods struct {
	t      *testing.T
	binary string

	mu   sync.Mutex
	made map[string]*pod // by namespace/name
}

type pod struct {
	ip    string         // as the suite sees it
	ports map[int]string // where its ports really are

	mu    sync.Mutex
	lines []line
}

type line struct {
	at   time.Time
	text string
}

// of starts what a Deployment asks for, once.
func (p *pods) of(ctx context.Context, c client.Client, d *appsv1.Deployment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	replicas := 1 // an API server's default
	if d.Spec.Replicas != nil {
		replicas = int(*d.Spec.Replicas)
	}
	for i := range replicas {
		name := fmt.Sprintf("%s-7d4b9c6f5-%05d", d.Name, i) // the suite takes two parts off
		key := d.Namespace + "/" + name
		if p.made[key] != nil {
			continue
		}
		one := &pod{ip: fmt.Sprintf("10.244.0.%d", len(p.made)+1), ports: map[int]string{}}
		p.made[key] = one
		if plainEcho(d) {
			p.start(one, d.Namespace, name)
		}
		object := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: name, Labels: d.Spec.Template.Labels},
			Spec:       d.Spec.Template.Spec,
			Status: corev1.PodStatus{
				Phase: corev1.PodRunning, PodIP: one.ip, PodIPs: []corev1.PodIP{{IP: one.ip}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			},
		}
		if err := c.Create(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

// plainEcho is false for what no test of HTTPRoute calls: servers of gRPC, TCP, UDP and DNS.
func plainEcho(d *appsv1.Deployment) bool {
	for _, container := range d.Spec.Template.Spec.Containers {
		if !strings.Contains(container.Image, "echo-basic") {
			return false
		}
		for _, e := range container.Env {
			if strings.HasSuffix(e.Name, "_ECHO_SERVER") {
				return false
			}
		}
	}
	return true
}

func (p *pods) start(one *pod, namespace, name string) {
	http, h2c := freePort(p.t), freePort(p.t)
	one.ports[3000], one.ports[3001] = "127.0.0.1:"+http, "127.0.0.1:"+h2c
	cmd := exec.Command(p.binary)
	cmd.Env = []string{"NAMESPACE=" + namespace, "POD_NAME=" + name, "HTTP_PORT=" + http, "H2C_PORT=" + h2c}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also where this test is killed
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			one.mu.Lock()
			one.lines = append(one.lines, line{time.Now(), scanner.Text()})
			one.mu.Unlock()
		}
	}()
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
}

// logs are a pod's lines since a moment.
func (p *pods) logs(namespace, name string, since time.Time) ([]byte, bool) {
	p.mu.Lock()
	one := p.made[namespace+"/"+name]
	p.mu.Unlock()
	if one == nil {
		return nil, false
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	var text strings.Builder
	for _, l := range one.lines {
		if !l.at.Before(since) {
			_, _ = io.WriteString(&text, l.text+"\n")
		}
	}
	return []byte(text.String()), true
}

// at is where a port of a pod's address really is, empty if nothing is there.
func (p *pods) at(ip string, port int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.made {
		if one.ip == ip {
			return one.ports[port]
		}
	}
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}
