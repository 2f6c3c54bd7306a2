//! Names of CDI that clients and other components rely on.
//! Source: CDI's API and pkg/controller/common, pkg/common.

/// API group of volume snapshots.
pub const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";
/// `apiVersion` of volume snapshots.
pub const SNAPSHOT_API_VERSION: &str = "snapshot.storage.k8s.io/v1";
/// API group of DataVolume and the other kinds.
pub const GROUP: &str = "cdi.kubevirt.io";
/// Version of the group.
pub const VERSION: &str = "v1beta1";
/// `apiVersion` of the group.
pub const API_VERSION: &str = "cdi.kubevirt.io/v1beta1";
/// Aggregated API group of upload tokens.
pub const UPLOAD_GROUP: &str = "upload.cdi.kubevirt.io";
/// Version of [`UPLOAD_GROUP`].
pub const UPLOAD_VERSION: &str = "v1beta1";

/// Namespace of CDI's own programs.
pub const NAMESPACE: &str = "cdi";
/// Name of the one CDI object.
pub const CDI: &str = "cdi";
/// Name of the one CDIConfig object.
pub const CONFIG: &str = "config";
/// Finalizer on the CDI object: removed once its programs are gone.
pub const CDI_FINALIZER: &str = "operator.cdi.kubevirt.io";
/// Deployment of the controllers.
pub const CONTROLLER: &str = "cdi-deployment";
/// Service and deployment of the upload proxy.
pub const UPLOAD_PROXY: &str = "cdi-uploadproxy";
/// Network policy that lets the upload proxy reach upload pods.
pub const UPLOAD_PROXY_POLICY: &str = "cdi-upload-proxy-policy";
/// Common name that the upload proxy's client certificate carries.
pub const UPLOAD_CLIENT_NAME: &str = "client.upload-server.cdi.kubevirt.io";
/// ConfigMap of the authority behind [`UPLOAD_CLIENT_NAME`].
pub const UPLOAD_CLIENT_CA_BUNDLE: &str = "cdi-uploadserver-client-signer-bundle";
/// ConfigMap of the authority behind the upload proxy's certificate.
pub const UPLOAD_PROXY_CA_BUNDLE: &str = "cdi-uploadproxy-signer-bundle";
/// Key of a CA bundle in its ConfigMap.
pub const CA_BUNDLE_KEY: &str = "ca-bundle.crt";
/// Secret of the authority that signs upload servers' certificates.
pub const UPLOAD_SERVER_SIGNER: &str = "cdi-uploadserver-signer";

/// Label of all objects of CDI; the value tells the component.
pub const COMPONENT_LABEL: &str = "cdi.kubevirt.io";
/// Second label of all objects of CDI.
pub const APP_LABEL: &str = "app";
/// Value of [`APP_LABEL`].
pub const APP: &str = "containerized-data-importer";
/// Value of [`COMPONENT_LABEL`] on importer pods.
pub const IMPORTER: &str = "importer";
/// Value of [`COMPONENT_LABEL`] on upload pods and their services.
pub const UPLOAD_SERVER: &str = "cdi-upload-server";
/// Value of [`COMPONENT_LABEL`] on cloner pods.
pub const CLONER: &str = "cdi-clone-source";
/// Value of [`COMPONENT_LABEL`] on pods that take a clone of another namespace. Ours: nobody but
/// the clone's own source pod may reach them.
pub const CLONE_TARGET: &str = "cdi-clone-target";
/// Value of [`COMPONENT_LABEL`] on pods that get a clone's claim ready.
pub const PREPARER: &str = "cdi-populator-prep";
/// Value of [`COMPONENT_LABEL`] on pods that look at a DataImportCron's source.
pub const POLLER: &str = "cdi-poller";
/// Label of a service and the pod behind it: the pod's name.
pub const SERVICE_LABEL: &str = "cdi.kubevirt.io/storage.uploadTarget";
/// Label of a claim whose gaps a storage profile shall fill: `true`.
pub const APPLY_STORAGE_PROFILE: &str = "cdi.kubevirt.io/applyStorageProfile";
/// Label that no volume has, edgevirt's own: a claim that selects by it is left alone by
/// provisioners.
pub const HELD_LABEL: &str = "edgevirt.local/populated-volume";
/// Label of a worker pod, edgevirt's own: uid of the claim it fills.
pub const CLAIM_UID_LABEL: &str = "edgevirt.local/claim-uid";
/// Label of what a backup (Velero's) is to leave out: `true`.
pub const NO_BACKUP_LABEL: &str = "velero.io/exclude-from-backup";
/// Label of a DataVolume, its claim and DataSource: the cron that made them.
pub const DATA_IMPORT_CRON_LABEL: &str = "cdi.kubevirt.io/dataImportCron";
/// Label of a pod that looks at a source, edgevirt's own: uid of the DataImportCron.
pub const CRON_UID_LABEL: &str = "edgevirt.local/cron-uid";
/// Finalizer that keeps a DataImportCron until its imports are dealt with.
pub const DATA_IMPORT_CRON_FINALIZER: &str = "cdi.kubevirt.io/dataImportCronFinalizer";
/// Finalizer that keeps an ObjectTransfer until it is complete or taken back.
pub const OBJECT_TRANSFER_FINALIZER: &str = "cdi.kubevirt.io/objectTransfer";
/// Field manager of the controllers' server-side applies.
pub const FIELD_MANAGER: &str = "cdi-controller";

/// Name of the volume (and, for a block claim, the device) in worker pods.
pub const DATA_VOLUME: &str = "cdi-data-vol";
/// Where a file-system claim is mounted in worker pods.
pub const DATA_DIR: &str = "/data";
/// The image on a file-system claim.
pub const DISK_IMAGE: &str = "/data/disk.img";
/// Path of a block claim in worker pods.
pub const BLOCK_DEVICE: &str = "/dev/cdi-block-volume";
/// Where the cloner finds a file-system claim to read.
pub const SOURCE_IMAGE: &str = "/source/disk.img";
/// Where the cloner finds a block claim to read.
pub const SOURCE_DEVICE: &str = "/dev/cdi-source";
/// TLS port of upload servers and the programs' services.
pub const UPLOAD_PORT: u16 = 8443;
/// Plain port of a worker's `/metrics`.
pub const METRICS_PORT: u16 = 8080;
/// Metric of a worker: how much of its work is done, in percent.
pub const PROGRESS_METRIC: &str = "kubevirt_cdi_import_progress_total";
/// Metric of a worker: it is there while the source fails and is tried again, with the reason
/// as its one label. Ours.
pub const RETRY_METRIC: &str = "edgevirt_cdi_import_retrying";

/// Annotations of claims, DataVolumes and worker pods.
pub mod annotations {
    /// A claim that is to be filled by upload: empty value.
    pub const UPLOAD_TARGET: &str = "cdi.kubevirt.io/storage.upload.target";
    /// Name of a claim's upload pod.
    pub const UPLOAD_POD: &str = "cdi.kubevirt.io/storage.uploadPodName";
    /// Name of a claim's importer pod.
    pub const IMPORT_POD: &str = "cdi.kubevirt.io/storage.import.importPodName";
    /// Name of a claim's cloner pod.
    pub const CLONE_POD: &str = "cdi.kubevirt.io/storage.sourceClonePodName";
    /// Phase of the worker pod.
    pub const POD_PHASE: &str = "cdi.kubevirt.io/storage.pod.phase";
    /// Whether the worker pod is ready: `true` or `false`.
    pub const POD_READY: &str = "cdi.kubevirt.io/storage.pod.ready";
    /// How often the worker was restarted.
    pub const POD_RESTARTS: &str = "cdi.kubevirt.io/storage.pod.restarts";
    /// Keep the worker pod when it is done: `true`.
    pub const POD_RETAIN: &str = "cdi.kubevirt.io/storage.pod.retainAfterCompletion";
    /// Priority class of the worker pod.
    pub const PRIORITY_CLASS: &str = "cdi.kubevirt.io/storage.pod.priorityclassname";
    /// Service account of the worker pod.
    pub const SERVICE_ACCOUNT: &str = "cdi.kubevirt.io/storage.pod.serviceAccountName";
    /// `kubevirt` or `archive`.
    pub const CONTENT_TYPE: &str = "cdi.kubevirt.io/storage.contentType";
    /// `http`, `s3`, `registry` or `none` (blank).
    pub const SOURCE: &str = "cdi.kubevirt.io/storage.import.source";
    /// URL to import from.
    pub const ENDPOINT: &str = "cdi.kubevirt.io/storage.import.endpoint";
    /// Secret with accessKeyId and secretKey.
    pub const SECRET: &str = "cdi.kubevirt.io/storage.import.secretName";
    /// ConfigMap with authorities to trust.
    pub const CERT_CONFIG_MAP: &str = "cdi.kubevirt.io/storage.import.certConfigMap";
    /// Expected digest, `algorithm:hex`.
    pub const CHECKSUM: &str = "cdi.kubevirt.io/storage.import.checksum";
    /// Followed by `.N`: a header to send.
    pub const EXTRA_HEADERS: &str = "cdi.kubevirt.io/storage.import.extraHeaders";
    /// Followed by `.N`: a Secret whose values are headers to send.
    pub const SECRET_EXTRA_HEADERS: &str = "cdi.kubevirt.io/storage.import.secretExtraHeaders";
    /// How a registry's image is fetched: `pod`.
    pub const REGISTRY_METHOD: &str = "cdi.kubevirt.io/storage.import.registryImportMethod";
    /// Digest of the image that a DataImportCron is to import next.
    pub const DESIRED_DIGEST: &str = "cdi.kubevirt.io/storage.import.sourceDesiredDigest";
    /// When a DataImportCron's source was last looked at.
    pub const LAST_CRON_TIME: &str = "cdi.kubevirt.io/storage.import.lastCronTime";
    /// When an import of a DataImportCron last became the newest.
    pub const LAST_USE: &str = "cdi.kubevirt.io/storage.import.lastUseTime";
    /// Digest of what a CronJob was rendered as, edgevirt's own.
    pub const RENDERED: &str = "edgevirt.local/rendered";
    /// Why an import can never succeed.
    pub const FATAL_ERROR: &str = "cdi.kubevirt.io/storage.import.fatalError";
    /// Name of the DataVolume a claim was filled for by somebody else.
    pub const POPULATED_FOR: &str = "cdi.kubevirt.io/storage.populatedFor";
    /// Preallocation is wanted: `true` or `false`.
    pub const PREALLOCATION_REQUESTED: &str = "cdi.kubevirt.io/storage.preallocation.requested";
    /// Preallocation was made: `true`.
    pub const PREALLOCATION: &str = "cdi.kubevirt.io/storage.preallocation";
    /// Do not wait for the first consumer.
    pub const IMMEDIATE_BINDING: &str = "cdi.kubevirt.io/storage.bind.immediate.requested";
    /// Condition Running, as the worker's pod tells: status.
    pub const RUNNING: &str = "cdi.kubevirt.io/storage.condition.running";
    /// See [`RUNNING`]: message.
    pub const RUNNING_MESSAGE: &str = "cdi.kubevirt.io/storage.condition.running.message";
    /// See [`RUNNING`]: reason.
    pub const RUNNING_REASON: &str = "cdi.kubevirt.io/storage.condition.running.reason";
    /// Condition Bound of the claim: status.
    pub const BOUND: &str = "cdi.kubevirt.io/storage.condition.bound";
    /// See [`BOUND`]: message.
    pub const BOUND_MESSAGE: &str = "cdi.kubevirt.io/storage.condition.bound.message";
    /// See [`BOUND`]: reason.
    pub const BOUND_REASON: &str = "cdi.kubevirt.io/storage.condition.bound.reason";
    /// Source of a clone, `namespace/name`.
    pub const CLONE_REQUEST: &str = "k8s.io/CloneRequest";
    /// The clone is complete: `true`.
    pub const CLONE_OF: &str = "k8s.io/CloneOf";
    /// How a clone is made: `copy`, `snapshot` or `csi-clone`.
    pub const CLONE_TYPE: &str = "cdi.kubevirt.io/cloneType";
    /// Why a clone is a copy though something faster was asked for.
    pub const CLONE_FALLBACK: &str = "cdi.kubevirt.io/cloneFallbackReason";
    /// How far a clone is: `Pending`, `Snapshot`, `SnapshotClone`, `CSIClone`, `HostClone`,
    /// `Rebind`, `Succeeded` or `Error`.
    pub const CLONE_PHASE: &str = "cdi.kubevirt.io/clonePhase";
    /// Leave out the comparison of sizes of a clone.
    pub const PERMISSIVE_CLONE: &str = "cdi.kubevirt.io/permissiveClone";
    /// Token of a permitted clone across namespaces.
    pub const CLONE_TOKEN: &str = "cdi.kubevirt.io/storage.clone.token";
    /// On a pod that reads a clone's source in another namespace: namespace and name of the
    /// clone's claim, `namespace/name`.
    pub const CLONE_OWNER: &str = "cdi.kubevirt.io/storage.ownerRef";
    /// The claim is filled through a claim of its own and rebound: `true`.
    pub const USE_POPULATOR: &str = "cdi.kubevirt.io/storage.usePopulator";
    /// Name of the claim that is filled in another's stead.
    pub const PVC_PRIME: &str = "cdi.kubevirt.io/storage.populator.pvcPrime";
    /// Kind of the source that a claim in another's stead is filled from.
    pub const POPULATOR_KIND: &str = "cdi.kubevirt.io/storage.populator.kind";
    /// How far a claim with a populator is, in percent.
    pub const POPULATOR_PROGRESS: &str = "cdi.kubevirt.io/storage.populator.progress";
    /// Uid of the DataVolume a claim was made for.
    pub const CREATED_FOR: &str = "cdi.kubevirt.io/createdForDataVolume";
    /// Adopt a claim of the DataVolume's name: `true`.
    pub const ALLOW_ADOPTION: &str = "cdi.kubevirt.io/allowClaimAdoption";
    /// SHA-256 of the raw image that was written, edgevirt's own.
    pub const DIGEST: &str = "edgevirt.local/image-sha256";
    /// On a storage class: how clones into it shall be made.
    pub const CLASS_CLONE_STRATEGY: &str = "cdi.kubevirt.io/clone-strategy";
    /// What a clone is made from and does not outlive it, edgevirt's own: kind and name.
    pub const TEMPORARY_SOURCE: &str = "edgevirt.local/temporary-source";
    /// What a clone across namespaces is made from is a snapshot, edgevirt's own: `true`.
    pub const FROM_SNAPSHOT: &str = "edgevirt.local/from-snapshot";
    /// A clone's image is smaller than its claim and is to grow, edgevirt's own: `true`.
    pub const GROWS: &str = "edgevirt.local/grows";
    /// On what an ObjectTransfer moves: the transfer's name.
    pub const OBJECT_TRANSFER: &str = "cdi.kubevirt.io/objectTransferName";
    /// On what an ObjectTransfer made, edgevirt's own: the transfer's uid.
    pub const TRANSFER_UID: &str = "edgevirt.local/transfer-uid";
    /// On a claim that an ObjectTransfer gave a volume, edgevirt's own: where that was before,
    /// `namespace/name`.
    pub const TRANSFERRED_FROM: &str = "edgevirt.local/transferred-from";
    /// Marks the default storage class.
    pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
    /// Marks the default storage class of virtual machines, which goes before.
    pub const DEFAULT_VIRT_CLASS: &str = "storageclass.kubevirt.io/is-default-virt-class";
    /// On a StorageProfile: no claim may be smaller.
    pub const MINIMUM_SIZE: &str = "cdi.kubevirt.io/minimumSupportedPvcSize";
    /// Driver outside of Kubernetes that took a claim over from one inside.
    pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
    /// Node that the scheduler chose for a claim's first consumer.
    pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
}
