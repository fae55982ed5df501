package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// diskManager makes disks that have a descriptor and an extent; those of the simulator are empty files.
type diskManager struct {
	simulator.VirtualDiskManager
}

// fileOf finds the file behind "[datastore] path"; empty where there is no such datastore.
func fileOf(name string) string {
	var path object.DatastorePath
	if !path.FromString(name) {
		return ""
	}
	for _, entity := range simulator.Map.All("Datastore") {
		datastore := entity.(*simulator.Datastore)
		if datastore.Name == path.Datastore && datastore.Summary.Accessible {
			return filepath.Join(datastore.Info.GetDatastoreInfo().Url, path.Path)
		}
	}
	return ""
}

func extentOf(descriptor string) string {
	return strings.TrimSuffix(descriptor, ".vmdk") + "-flat.vmdk"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

type disk struct {
	sectors int64
	uuid    string // as in ddb.uuid: "60 00 C2 9e ..."
	adapter string
	thin    bool
}

func newUUID() string {
	bytes := make([]byte, 16)
	_, _ = rand.Read(bytes)
	copy(bytes, []byte{0x60, 0x00, 0xC2, 0x90})
	text := ""
	for i, b := range bytes {
		separator := " "
		if i == 8 {
			separator = "-"
		}
		if i == 0 {
			separator = ""
		}
		text += fmt.Sprintf("%s%02x", separator, b)
	}
	return text
}

// dashed is the uuid as a device's backing shows it: 8-4-4-4-12, in capitals as ESXi has it.
func (d disk) dashed() string {
	digits := strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(d.uuid))
	return digits[0:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
}

func (d disk) write(file string) error {
	thin := ""
	if d.thin {
		thin = "ddb.thinProvisioned = \"1\"\n"
	}
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\n"+
		"isNativeSnapshot=\"no\"\ncreateType=\"vmfs\"\n\n# Extent description\nRW %d VMFS \"%s\"\n\n"+
		"# The Disk Data Base \n#DDB\n\nddb.adapterType = \"%s\"\n%sddb.uuid = \"%s\"\nddb.virtualHWVersion = \"13\"\n",
		d.sectors, filepath.Base(extentOf(file)), d.adapter, thin, d.uuid)
	return os.WriteFile(file, []byte(text), 0600)
}

var (
	sectorsLine = regexp.MustCompile(`(?m)^RW (\d+) VMFS "`)
	uuidLine    = regexp.MustCompile(`(?m)^ddb\.uuid = "([^"]+)"`)
)

func readDisk(file string) (disk, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return disk{}, false
	}
	sectors := sectorsLine.FindSubmatch(text)
	uuid := uuidLine.FindSubmatch(text)
	if sectors == nil || uuid == nil {
		return disk{}, false
	}
	number, _ := strconv.ParseInt(string(sectors[1]), 10, 64)
	return disk{sectors: number, uuid: string(uuid[1]), adapter: "busLogic", thin: strings.Contains(string(text), "thinProvisioned")}, true
}

func (m *diskManager) CreateVirtualDiskTask(_ *simulator.Context, req *types.CreateVirtualDisk_Task) soap.HasFault {
	ref := tasks.run(m, "CreateVirtualDisk_Task", func() (types.AnyType, types.BaseMethodFault) {
		file := fileOf(req.Name)
		spec, ok := req.Spec.(*types.FileBackedVirtualDiskSpec)
		switch {
		case file == "":
			return nil, &types.InvalidDatastore{Name: req.Name}
		case !ok || spec.CapacityKb <= 0:
			return nil, &types.InvalidArgument{InvalidProperty: "spec.capacityKb"}
		case spec.DiskType != "thin" && spec.DiskType != "preallocated" && spec.DiskType != "eagerZeroedThick":
			return nil, &types.InvalidArgument{InvalidProperty: "spec.diskType"}
		case exists(file) || exists(extentOf(file)):
			return nil, &types.FileAlreadyExists{FileFault: types.FileFault{File: req.Name}}
		}
		return makeDisk(file, disk{sectors: spec.CapacityKb * 2, uuid: newUUID(), adapter: spec.AdapterType, thin: spec.DiskType == "thin"}, req.Name)
	})
	return &methods.CreateVirtualDisk_TaskBody{Res: &types.CreateVirtualDisk_TaskResponse{Returnval: ref}}
}

func makeDisk(file string, made disk, name string) (types.AnyType, types.BaseMethodFault) {
	extent, err := os.Create(extentOf(file))
	if err != nil {
		if os.IsNotExist(err) {
			return nil, &types.FileNotFound{FileFault: types.FileFault{File: name}}
		}
		return nil, &types.CannotCreateFile{FileFault: types.FileFault{File: name}}
	}
	defer extent.Close()
	if extent.Truncate(made.sectors*512) != nil || made.write(file) != nil {
		return nil, &types.NoDiskSpace{FileFault: types.FileFault{File: name}}
	}
	return name, nil
}

func (m *diskManager) CopyVirtualDiskTask(_ *simulator.Context, req *types.CopyVirtualDisk_Task) soap.HasFault {
	ref := tasks.run(m, "CopyVirtualDisk_Task", func() (types.AnyType, types.BaseMethodFault) {
		if req.DestSpec != nil && simulator.Map.IsVPX() {
			return nil, &types.NotImplemented{}
		}
		from, to := fileOf(req.SourceName), fileOf(req.DestName)
		source, ok := readDisk(from)
		switch {
		case !ok:
			return nil, &types.FileNotFound{FileFault: types.FileFault{File: req.SourceName}}
		case exists(to) || exists(extentOf(to)):
			return nil, &types.FileAlreadyExists{FileFault: types.FileFault{File: req.DestName}}
		case writerOf(req.SourceName) != nil:
			return nil, &types.FileLocked{FileFault: types.FileFault{File: req.SourceName}}
		}
		source.uuid = newUUID()
		if result, fault := makeDisk(to, source, req.DestName); fault != nil {
			return result, fault
		}
		in, err := os.Open(extentOf(from))
		if err != nil {
			return nil, &types.CannotAccessFile{FileFault: types.FileFault{File: req.SourceName}}
		}
		defer in.Close()
		out, err := os.OpenFile(extentOf(to), os.O_WRONLY, 0600)
		if err != nil {
			return nil, &types.CannotAccessFile{FileFault: types.FileFault{File: req.DestName}}
		}
		defer out.Close()
		if _, err := io.Copy(out, in); err != nil {
			return nil, &types.NoDiskSpace{FileFault: types.FileFault{File: req.DestName}}
		}
		return req.DestName, nil
	})
	return &methods.CopyVirtualDisk_TaskBody{Res: &types.CopyVirtualDisk_TaskResponse{Returnval: ref}}
}

func (m *diskManager) DeleteVirtualDiskTask(_ *simulator.Context, req *types.DeleteVirtualDisk_Task) soap.HasFault {
	ref := tasks.run(m, "DeleteVirtualDisk_Task", func() (types.AnyType, types.BaseMethodFault) {
		file := fileOf(req.Name)
		if !exists(file) {
			return nil, &types.FileNotFound{FileFault: types.FileFault{File: req.Name}}
		}
		if writerOf(req.Name) != nil {
			return nil, &types.FileLocked{FileFault: types.FileFault{File: req.Name}}
		}
		_ = os.Remove(extentOf(file))
		if os.Remove(file) != nil {
			return nil, &types.CannotDeleteFile{FileFault: types.FileFault{File: req.Name}}
		}
		return nil, nil
	})
	return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: ref}}
}

func (m *diskManager) ZeroFillVirtualDiskTask(_ *simulator.Context, req *types.ZeroFillVirtualDisk_Task) soap.HasFault {
	ref := tasks.run(m, "ZeroFillVirtualDisk_Task", func() (types.AnyType, types.BaseMethodFault) {
		file := fileOf(req.Name)
		found, ok := readDisk(file)
		if !ok {
			return nil, &types.FileNotFound{FileFault: types.FileFault{File: req.Name}}
		}
		if os.Truncate(extentOf(file), 0) != nil || os.Truncate(extentOf(file), found.sectors*512) != nil {
			return nil, &types.CannotAccessFile{FileFault: types.FileFault{File: req.Name}}
		}
		return nil, nil
	})
	return &methods.ZeroFillVirtualDisk_TaskBody{Res: &types.ZeroFillVirtualDisk_TaskResponse{Returnval: ref}}
}
