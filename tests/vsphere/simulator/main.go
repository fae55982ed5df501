// A vCenter (or, with -esx, one ESXi host) to test against: govmomi's API simulator as Debian ships it, with
// what it leaves out and disks need added (disks.go, vms.go).
//
// It says "ready PORT" on its standard output, then reads commands, a line each, and answers each with a line:
//
//	hold METHOD           tasks of that method stay running from now on
//	release               all that are held go on, and none is held any more
//	held                  how many tasks are held now
//	fail METHOD FAULT     the next task of that method ends with that fault
//	away DATASTORE        no host reaches it any more
//	back DATASTORE
//	lose DATASTORE        its files are gone, as where a host has lost its storage
//	rename OLD NEW        a datastore
//
// It ends when its standard input is closed.
package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io/ioutil"
	"log"
	"net/url"
	"os"
	"strings"

	_ "github.com/vmware/govmomi/pbm/simulator"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func main() {
	vms := flag.Int("vm", 2, "VMs per pool")
	hosts := flag.Int("host", 1, "hosts beside the cluster's")
	datastores := flag.Int("ds", 2, "datastores")
	esx := flag.Bool("esx", false, "an ESXi host instead of vCenter")
	verbose := flag.Bool("v", false, "log to the standard error")
	flag.Parse()
	if !*verbose {
		log.SetOutput(ioutil.Discard)
	}
	model := simulator.VPX()
	if *esx {
		model = simulator.ESX()
	} else {
		model.Cluster, model.Host = 0, *hosts
	}
	model.Machine, model.Datastore = *vms, *datastores
	if err := model.Create(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	extend()
	service := model.Service
	service.Listen = &url.URL{Scheme: "https", Host: "127.0.0.1:0", User: url.UserPassword("user", "pass")}
	service.TLS = new(tls.Config)
	service.RegisterEndpoints = true
	server := service.NewServer()
	fmt.Println("ready", server.URL.Port())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(command(strings.Fields(lines.Text())))
	}
	model.Remove()
	os.Exit(0) // without waiting for requests that nobody wants answered any more
}

func command(words []string) string {
	switch {
	case len(words) == 2 && words[0] == "hold":
		tasks.hold(words[1])
	case len(words) == 1 && words[0] == "release":
		tasks.release()
	case len(words) == 1 && words[0] == "held":
		return fmt.Sprint(tasks.count())
	case len(words) == 3 && words[0] == "fail":
		return tasks.fail(words[1], words[2])
	case len(words) == 2 && (words[0] == "away" || words[0] == "back"):
		return setAccessible(words[1], words[0] == "back")
	case len(words) == 2 && words[0] == "lose":
		return change(words[1], func(d *simulator.Datastore) {
			d.Info.GetDatastoreInfo().Url += "-lost"
		})
	case len(words) == 3 && words[0] == "rename":
		return change(words[1], func(d *simulator.Datastore) {
			d.Summary.Name = words[2]
			d.Info.GetDatastoreInfo().Name = words[2]
			simulator.Map.Update(d, []types.PropertyChange{{Name: "name", Val: words[2]}})
		})
	default:
		return "what?"
	}
	return "ok"
}

func setAccessible(name string, accessible bool) string {
	return change(name, func(d *simulator.Datastore) {
		simulator.Map.Update(d, []types.PropertyChange{{Name: "summary.accessible", Val: accessible}})
	})
}

func change(name string, work func(*simulator.Datastore)) string {
	for _, entity := range simulator.Map.All("Datastore") {
		if datastore := entity.(*simulator.Datastore); datastore.Name == name {
			simulator.Map.WithLock(datastore, func() { work(datastore) })
			return "ok"
		}
	}
	return "there is no datastore " + name
}

// extend puts our managers and VMs in the place of the simulator's, under the same references.
func extend() {
	for _, entity := range simulator.Map.All("VirtualMachine") {
		vm := &machine{VirtualMachine: *entity.(*simulator.VirtualMachine)}
		vm.version = 1
		vm.Config.ChangeVersion = "1"
		vm.placeControllers(vm.Config.Hardware.Device)
		simulator.Map.Put(vm)
	}
	content := simulator.Map.Get(types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance).Content
	simulator.Map.Put(&searchIndex{SearchIndex: *simulator.Map.SearchIndex()})
	disks := simulator.Map.Get(*content.VirtualDiskManager).(*simulator.VirtualDiskManager)
	simulator.Map.Put(&diskManager{VirtualDiskManager: *disks})
}
