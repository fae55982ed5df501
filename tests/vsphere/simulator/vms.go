package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// machine is a VM whose changes are checked as a vCenter checks them: by the version they were decided on, and
// by the lock of a disk that another running VM has. Its disks have the uuid and the size of their files, and
// its controllers a place on the PCI bus.
type machine struct {
	simulator.VirtualMachine
	version int
}

// writers are the running VMs' disks: by path, the VM.
var writers = struct {
	sync.Mutex
	byPath map[string]*machine
}{byPath: map[string]*machine{}}

func writerOf(path string) *machine {
	writers.Lock()
	defer writers.Unlock()
	return writers.byPath[path]
}

const (
	firstBridge     = 4  // pciBridge4 is the first that PVSCSI controllers sit behind
	firstBridgeSlot = 21 // and its slot on the root bus
	functionShift   = 10
	busShift        = 5
)

// placeControllers gives each PVSCSI controller among the devices a slot, and the configuration its bridges.
func (vm *machine) placeControllers(devices []types.BaseVirtualDevice) {
	for _, device := range devices {
		controller, ok := device.(*types.ParaVirtualSCSIController)
		if !ok || controller.SlotInfo != nil {
			continue
		}
		slot := int32(firstBridge+1+controller.BusNumber) << busShift
		controller.SlotInfo = &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: slot}
		vm.Config.ExtraConfig = append(vm.Config.ExtraConfig,
			&types.OptionValue{Key: fmt.Sprintf("scsi%d.pciSlotNumber", controller.BusNumber), Value: fmt.Sprint(slot)},
			&types.OptionValue{Key: fmt.Sprintf("pciBridge%d.pciSlotNumber", firstBridge+controller.BusNumber),
				Value: fmt.Sprint(firstBridgeSlot + controller.BusNumber)})
	}
}

func backingOf(device types.BaseVirtualDevice) (*types.VirtualDisk, *types.VirtualDiskFlatVer2BackingInfo) {
	disk, ok := device.(*types.VirtualDisk)
	if !ok {
		return nil, nil
	}
	backing, _ := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return disk, backing
}

// check is what a vCenter refuses, and fills in what it knows of the disk's file.
func (vm *machine) check(spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	if spec.ChangeVersion != "" && spec.ChangeVersion != vm.Config.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	for _, change := range spec.DeviceChange {
		request := change.GetVirtualDeviceConfigSpec()
		device, backing := backingOf(request.Device)
		if backing == nil || request.FileOperation != "" {
			continue
		}
		if request.Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		found, ok := readDisk(fileOf(backing.FileName))
		if !ok {
			return &types.FileNotFound{FileFault: types.FileFault{File: backing.FileName}}
		}
		if writer := writerOf(backing.FileName); writer != nil {
			return &types.FileLocked{FileFault: types.FileFault{File: backing.FileName}}
		}
		backing.Uuid = found.dashed()
		device.CapacityInKB = found.sectors / 2
		device.CapacityInBytes = found.sectors * 512
	}
	return nil
}

// note remembers which disks this VM has open; a VM that is off has none.
func (vm *machine) note() {
	writers.Lock()
	defer writers.Unlock()
	for path, writer := range writers.byPath {
		if writer == vm {
			delete(writers.byPath, path)
		}
	}
	if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff {
		return
	}
	for _, device := range vm.Config.Hardware.Device {
		if _, backing := backingOf(device); backing != nil {
			writers.byPath[backing.FileName] = vm
		}
	}
}

func (vm *machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	ref := tasks.run(vm, "ReconfigVM_Task", func() (types.AnyType, types.BaseMethodFault) {
		if fault := vm.check(&req.Spec); fault != nil {
			return nil, fault
		}
		for _, change := range req.Spec.DeviceChange {
			vm.placeControllers([]types.BaseVirtualDevice{change.GetVirtualDeviceConfigSpec().Device})
		}
		if fault := vm.apply(ctx, req); fault != nil {
			return nil, fault
		}
		vm.version++
		simulator.Map.Update(vm, []types.PropertyChange{
			{Name: "config.changeVersion", Val: fmt.Sprint(vm.version)},
			{Name: "config.uuid", Val: vm.Config.Uuid},
			{Name: "name", Val: vm.Name},
		})
		vm.note()
		return nil, nil
	})
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: ref}}
}

// apply lets the simulator do it: its task is over when its method returns.
func (vm *machine) apply(ctx *simulator.Context, req *types.ReconfigVM_Task) types.BaseMethodFault {
	body := vm.VirtualMachine.ReconfigVMTask(ctx, req).(*methods.ReconfigVM_TaskBody)
	inner := simulator.Map.Get(body.Res.Returnval).(*simulator.Task)
	if inner.Info.Error != nil {
		return inner.Info.Error.Fault
	}
	return nil
}

func (vm *machine) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	result := vm.VirtualMachine.PowerOffVMTask(ctx, req)
	vm.note()
	return result
}

func (vm *machine) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	result := vm.VirtualMachine.PowerOnVMTask(ctx, req)
	vm.note()
	return result
}

// searchIndex finds all VMs of a uuid, where the simulator gives one of them.
type searchIndex struct {
	simulator.SearchIndex
}

func (s *searchIndex) FindAllByUuid(req *types.FindAllByUuid) soap.HasFault {
	found := []types.ManagedObjectReference{}
	byInstance := req.InstanceUuid != nil && *req.InstanceUuid
	for _, entity := range simulator.Map.All("VirtualMachine") {
		vm := entity.(*machine)
		uuid := vm.Config.Uuid
		if byInstance {
			uuid = vm.Config.InstanceUuid
		}
		if strings.EqualFold(uuid, req.Uuid) {
			found = append(found, vm.Self)
		}
	}
	return &methods.FindAllByUuidBody{Res: &types.FindAllByUuidResponse{Returnval: found}}
}
