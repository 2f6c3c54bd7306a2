// The CSI driver of the tests: volumes are directories of one node, clones and
// snapshots are copies of them. It speaks CSI to the kubelet and to the sidecars
// of Kubernetes, which are built beside it, and registers itself with the kubelet.
//
// It is test equipment: nothing of it is deployed, and it keeps no data for anybody.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Driver keeps volumes and snapshots below one directory:
// volumes/NAME and snapshots/NAME, each with its size in bytes in NAME.size.
type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	name, node, data, socket string

	// A caller that has lost its patience asks again, while what it asked for is still being made.
	lock sync.Mutex
}

func main() {
	d := &driver{}
	var plugins string
	flag.StringVar(&d.name, "name", "", "name of the driver")
	flag.StringVar(&d.node, "node", "", "name of the node")
	flag.StringVar(&d.data, "data", "", "directory for volumes and snapshots")
	flag.StringVar(&d.socket, "socket", "", "socket to serve CSI on")
	flag.StringVar(&plugins, "registry", "/var/lib/kubelet/plugins_registry", "where the kubelet looks for plugins")
	flag.Parse()
	if err := d.run(plugins); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (d *driver) run(plugins string) error {
	for _, kind := range []string{"volumes", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(d.data, kind), 0o755); err != nil {
			return err
		}
	}
	ended := make(chan error, 2)
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, d)
	csi.RegisterControllerServer(server, d)
	csi.RegisterNodeServer(server, d)
	if err := serve(server, d.socket, ended); err != nil {
		return err
	}
	// The kubelet asks as soon as it sees the second socket.
	registrar := grpc.NewServer()
	registration.RegisterRegistrationServer(registrar, &registrant{d: d})
	if err := serve(registrar, filepath.Join(plugins, d.name+"-reg.sock"), ended); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-ended:
		return err
	case <-stop:
		registrar.Stop()
		server.Stop()
		return nil
	}
}

func serve(server *grpc.Server, socket string, ended chan<- error) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go func() { ended <- server.Serve(listener) }()
	return nil
}

// Registrant answers the kubelet's plugin watcher.
type registrant struct {
	registration.UnimplementedRegistrationServer
	d *driver
}

func (r *registrant) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: r.d.name, Endpoint: r.d.socket,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registrant) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	fmt.Fprintln(os.Stderr, "registered:", s.PluginRegistered, s.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.name, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{{
		Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{
			Type: csi.PluginCapability_Service_CONTROLLER_SERVICE,
		}},
	}}}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	response := &csi.ControllerGetCapabilitiesResponse{}
	for _, kind := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
	} {
		response.Capabilities = append(response.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: kind}},
		})
	}
	return response, nil
}

// Path of an object; identifiers that climb out of the directory are refused.
func (d *driver) path(kind, id string) (string, error) {
	if id == "" || strings.ContainsAny(id, "/\x00") || strings.HasPrefix(id, ".") {
		return "", status.Errorf(codes.InvalidArgument, "expected the identifier of one of %s, found %q", kind, id)
	}
	return filepath.Join(d.data, kind, id), nil
}

func size(path string) (int64, error) {
	text, err := os.ReadFile(path + ".size")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, status.Errorf(codes.NotFound, "expected %s, found none", filepath.Base(path))
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(text), 10, 64)
}

// Makes an object whole or not at all: its size, by which it is found, is written last.
func (d *driver) put(path, from string, bytes int64) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if from == "" {
		if err := os.Mkdir(path, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o777); err != nil {
			return err
		}
	} else if text, err := exec.Command("cp", "--archive", "--sparse=always", from, path).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, text)
	}
	return os.WriteFile(path+".size", []byte(strconv.FormatInt(bytes, 10)), 0o644)
}

func (d *driver) drop(kind, id string) error {
	d.lock.Lock()
	defer d.lock.Unlock()
	path, err := d.path(kind, id)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path + ".size"); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

func (d *driver) CreateVolume(_ context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	for _, capability := range request.VolumeCapabilities {
		if capability.GetBlock() != nil {
			return nil, status.Error(codes.InvalidArgument, "expected a file system, found a request for a device")
		}
	}
	path, err := d.path("volumes", request.Name)
	if err != nil {
		return nil, err
	}
	bytes := request.GetCapacityRange().GetRequiredBytes()
	from := ""
	if source := request.GetVolumeContentSource(); source != nil {
		if volume := source.GetVolume(); volume != nil {
			from, err = d.path("volumes", volume.VolumeId)
		} else {
			from, err = d.path("snapshots", source.GetSnapshot().GetSnapshotId())
		}
		if err != nil {
			return nil, err
		}
		least, err := size(from)
		if err != nil {
			return nil, err
		}
		if bytes < least {
			return nil, status.Errorf(codes.OutOfRange, "expected at least the %d bytes of the source, found %d", least, bytes)
		}
	}
	if _, err := size(path); status.Code(err) == codes.NotFound {
		if err := d.put(path, from, bytes); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: request.Name, CapacityBytes: bytes, ContentSource: request.VolumeContentSource,
		// For the tests, which look at what a volume holds.
		VolumeContext: map[string]string{"path": path},
	}}, nil
}

func (d *driver) DeleteVolume(_ context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	return &csi.DeleteVolumeResponse{}, d.drop("volumes", request.VolumeId)
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeCapabilities: request.VolumeCapabilities,
	}}, nil
}

func (d *driver) CreateSnapshot(_ context.Context, request *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	from, err := d.path("volumes", request.SourceVolumeId)
	if err != nil {
		return nil, err
	}
	path, err := d.path("snapshots", request.Name)
	if err != nil {
		return nil, err
	}
	bytes, err := size(from)
	if err != nil {
		return nil, err
	}
	if _, err := size(path); status.Code(err) == codes.NotFound {
		if err := d.put(path, from, bytes); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	made, err := os.Stat(path + ".size")
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: &csi.Snapshot{
		SnapshotId: request.Name, SourceVolumeId: request.SourceVolumeId, SizeBytes: bytes,
		CreationTime: timestamppb.New(made.ModTime()), ReadyToUse: true,
	}}, nil
}

func (d *driver) DeleteSnapshot(_ context.Context, request *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	return &csi.DeleteSnapshotResponse{}, d.drop("snapshots", request.SnapshotId)
}

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	path, err := d.path("volumes", request.VolumeId)
	if err != nil {
		return nil, err
	}
	if _, err := size(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(request.TargetPath, 0o750); err != nil {
		return nil, err
	}
	if mounted(request.TargetPath) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := syscall.Mount(path, request.TargetPath, "", syscall.MS_BIND, ""); err != nil {
		return nil, err
	}
	if request.Readonly {
		flags := uintptr(syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY)
		if err := syscall.Mount("", request.TargetPath, "", flags, ""); err != nil {
			return nil, err
		}
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if mounted(request.TargetPath) {
		if err := syscall.Unmount(request.TargetPath, 0); err != nil {
			return nil, err
		}
	}
	if err := os.Remove(request.TargetPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// Whether something is mounted there. A bind mount may be on the same device, so
// that the numbers of devices tell nothing.
func mounted(path string) bool {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(table), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == path {
			return true
		}
	}
	return false
}
