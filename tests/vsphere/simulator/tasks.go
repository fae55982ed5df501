package main

import (
	"reflect"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// tasks says which tasks are held and which fail. The simulator's own are over before their method answers.
var tasks = taskControl{holds: map[string]bool{}, faults: map[string]types.BaseMethodFault{}}

type taskControl struct {
	mutex  sync.Mutex
	holds  map[string]bool
	faults map[string]types.BaseMethodFault
	held   []chan struct{}
}

func (c *taskControl) hold(name string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.holds[name] = true
}

func (c *taskControl) release() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.holds = map[string]bool{}
	for _, gate := range c.held {
		close(gate)
	}
	c.held = nil
}

func (c *taskControl) count() int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return len(c.held)
}

func (c *taskControl) fail(name string, fault string) string {
	kind, ok := types.TypeFunc()(fault)
	if !ok {
		return "there is no fault " + fault
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.faults[name] = reflect.New(kind).Interface().(types.BaseMethodFault)
	return "ok"
}

func (c *taskControl) gate(name string) chan struct{} {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.holds[name] {
		return nil
	}
	gate := make(chan struct{})
	c.held = append(c.held, gate)
	return gate
}

func (c *taskControl) takeFault(name string) types.BaseMethodFault {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	fault := c.faults[name]
	delete(c.faults, name)
	return fault
}

// run makes a task on `object` that runs by itself, while its method answers, as those of a vCenter do. The
// object is locked while the work is done.
func (c *taskControl) run(object mo.Reference, name string, work func() (types.AnyType, types.BaseMethodFault)) types.ManagedObjectReference {
	gate := c.gate(name)
	task := simulator.CreateTask(object, strings.TrimSuffix(name, "_Task"), func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if gate != nil {
			<-gate
		}
		if fault := c.takeFault(name); fault != nil {
			return nil, fault
		}
		var result types.AnyType
		var fault types.BaseMethodFault
		simulator.Map.WithLock(object, func() { result, fault = work() })
		return result, fault
	})
	task.Info.Name = name
	if vm, ok := object.(*machine); ok {
		vm.RecentTask = append(vm.RecentTask, task.Self) // its lock is held by who called the method
	}
	go task.Run()
	return task.Self
}
