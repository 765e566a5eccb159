// Command controlplane is the five Kubernetes components in one binary, chosen by the name it is called by or by its
// first argument. The end-to-end tests build it from the module proxy, so that real nodes run where no image registry
// can be reached.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // what the components' own mains embed: time zones,

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // the JSON log format,
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // and the version metric
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kube-proxy":              proxy.NewProxyCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	args := os.Args
	if components[filepath.Base(args[0])] == nil && len(args) > 1 {
		args = args[1:]
	}
	name := filepath.Base(args[0])
	component := components[name]
	if component == nil {
		fmt.Fprintf(os.Stderr, "usage: controlplane COMPONENT [flags]; %q is none of the five\n", name)
		os.Exit(2)
	}
	os.Args = append([]string{name}, args[1:]...)
	os.Exit(cli.Run(component()))
}
