"""Schemas of what the role rook-ceph renders: the fields it sets, and no other.

Rook's API prunes fields it does not know without a word, so a misspelt one must fail here. The fields and their types
are those of Rook's API reference, ceph.rook.io/v1, and of Kubernetes'.
"""

TEXT = {"type": "string", "minLength": 1}
# A reference with host, repository and tag.
IMAGE = {"type": "string", "pattern": r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+:[A-Za-z0-9._-]+$"}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(m|Mi|Gi)?$"}


def fields(required=None, **properties):
    """An object with these fields, all needed unless said, and no other."""
    return {"type": "object", "properties": properties, "additionalProperties": False,
            "required": list(properties) if required is None else required}


def kind(version, name, namespaced, **rest):
    """An object of the API."""
    meta = fields(name=TEXT, **({"namespace": TEXT} if namespaced else {}))
    return fields(apiVersion={"const": version}, kind={"const": name}, metadata=meta, **rest)


AMOUNTS = fields(cpu=QUANTITY, memory=QUANTITY)
DAEMON = fields(requests=AMOUNTS, limits=AMOUNTS)
COUNT = {"type": "integer", "minimum": 1}
SWITCH = {"type": "boolean"}
DEVICE = fields(name={"type": "string", "pattern": "^/dev/disk/by-id/[^/]+$"},
                config=fields(osdsPerDevice={"type": "string", "pattern": "^[1-9][0-9]*$"}))

CLUSTER = kind(
    "ceph.rook.io/v1", "CephCluster", True,
    spec=fields(
        cephVersion=fields(image=IMAGE, allowUnsupported={"const": False}),
        dataDirHostPath={"const": "/var/lib/rook"},
        mon=fields(count={"enum": [1, 3, 5, 7, 9]}, allowMultiplePerNode=SWITCH),
        mgr=fields(count={"enum": [1, 2]}, modules={"type": "array", "items": fields(name=TEXT, enabled=SWITCH)}),
        dashboard=fields(enabled=SWITCH, ssl=SWITCH),
        crashCollector=fields(disable=SWITCH),
        # Installing never confirms a cleanup.
        cleanupPolicy=fields(confirmation={"const": ""}, allowUninstallWithVolumes={"const": False}),
        resources=fields(mgr=DAEMON, mon=DAEMON, osd=DAEMON),
        removeOSDsIfOutAndSafeToRemove={"const": False},
        storage=fields(
            useAllNodes={"const": False}, useAllDevices={"const": False},
            nodes={"type": "array", "minItems": 1,
                   "items": fields(name=TEXT, devices={"type": "array", "minItems": 1, "items": DEVICE})}),
        disruptionManagement=fields(managePodBudgets=SWITCH)))

POOL = kind("ceph.rook.io/v1", "CephBlockPool", True,
            spec=fields(failureDomain={"enum": ["osd", "host"]},
                        replicated=fields(size=COUNT, requireSafeReplicaSize=SWITCH)))

SECRETS = {f"csi.storage.k8s.io/{step}-secret-{part}": {"const": value}
           for step, secret in [("provisioner", "rook-csi-rbd-provisioner"),
                                ("controller-expand", "rook-csi-rbd-provisioner"), ("node-stage", "rook-csi-rbd-node")]
           for part, value in [("name", secret), ("namespace", "rook-ceph")]}

CLASS = kind("storage.k8s.io/v1", "StorageClass", False,
             provisioner={"const": "rook-ceph.rbd.csi.ceph.com"}, allowVolumeExpansion={"const": True},
             reclaimPolicy={"const": "Delete"},
             parameters=fields(clusterID={"const": "rook-ceph"}, pool={"const": "replicapool"}, imageFormat={"const": "2"},
                               imageFeatures={"const": "layering"}, **SECRETS,
                               **{"csi.storage.k8s.io/fstype": {"const": "ext4"}}))

IMAGES = kind("v1", "ConfigMap", True,
              data=fields(**{f"ROOK_CSI_{name}_IMAGE": IMAGE for name in
                             ["CEPH", "ATTACHER", "REGISTRAR", "PROVISIONER", "RESIZER", "SNAPSHOTTER"]}))

ALL = {"cluster.yaml": CLUSTER, "pool.yaml": POOL, "storageclass.yaml": CLASS, "images.yaml": IMAGES}
