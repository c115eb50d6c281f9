//! What a kubelet says to a container runtime, as far as pods' networks go.
//!
//! Messages have the fields that are used here; protobuf passes over the others.
//! Source: Kubernetes `cri-api/pkg/apis/runtime/v1/api.proto`.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// A runtime that is spoken to.
pub(crate) struct Cri {
    tokio: Runtime,
    channel: Channel,
}

impl Cri {
    pub(crate) fn new(socket: &Path) -> Cri {
        let tokio = Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = tokio.block_on(async { endpoint.timeout(PATIENCE).connect_lazy() });
        Cri { tokio, channel }
    }

    /// Whether pods could be run, the network included.
    pub(crate) fn is_ready(&self) -> bool {
        let asked = self.ask::<Empty, StatusResponse>("Status", Empty {});
        let status = asked.ok().and_then(|answer| answer.status).unwrap_or_default();
        status.conditions.len() > 1 && status.conditions.iter().all(|condition| condition.status)
    }

    pub(crate) fn run_pod(&self, config: &PodSandboxConfig) -> String {
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        self.must::<_, PodSandboxId>("RunPodSandbox", request).pod_sandbox_id
    }

    /// Its addresses, the first one first.
    pub(crate) fn addresses(&self, pod: &str) -> Vec<String> {
        let answer: PodSandboxStatusResponse = self.must("PodSandboxStatus", of(pod));
        let network = answer.status.unwrap_or_default().network.unwrap_or_default();
        [network.ip].into_iter().chain(network.additional_ips.into_iter().map(|ip| ip.ip)).collect()
    }

    /// Creates and starts a container.
    pub(crate) fn start(&self, pod: &str, sandbox: &PodSandboxConfig, (image, command): (&str, &[&str])) -> String {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: image.to_owned() }),
            command: command.iter().map(ToString::to_string).collect(),
            log_path: "main.log".to_owned(),
            linux: Some(Empty {}),
        };
        let (config, sandbox_config) = (Some(config), Some(sandbox.clone()));
        let request = CreateContainerRequest { pod_sandbox_id: pod.to_owned(), config, sandbox_config };
        let container: ContainerId = self.must("CreateContainer", request);
        self.must::<_, Empty>("StartContainer", container.clone());
        container.container_id
    }

    /// Runs a program in a container; what it printed, and it must succeed.
    #[track_caller]
    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> String {
        let cmd = command.iter().map(ToString::to_string).collect();
        let answer: ExecSyncResponse =
            self.must("ExecSync", ExecSyncRequest { container_id: container.to_owned(), cmd, timeout: 20 });
        let [said, complained] = [answer.stdout, answer.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(answer.exit_code, 0, "{command:?}:\n{said}{complained}");
        said
    }

    pub(crate) fn stop_pod(&self, pod: &str) {
        self.must::<_, Empty>("StopPodSandbox", of(pod));
    }

    pub(crate) fn remove_pod(&self, pod: &str) {
        self.must::<_, Empty>("RemovePodSandbox", of(pod));
    }

    #[track_caller]
    fn must<Q, A>(&self, method: &str, request: Q) -> A
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.ask(method, request).unwrap_or_else(|status| panic!("{method}: {}", status.message()))
    }

    fn ask<Q, A>(&self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.tokio.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let path = format!("/runtime.v1.RuntimeService/{method}").parse().unwrap();
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            Ok(grpc.unary(Request::new(request), path, codec).await?.into_inner())
        })
    }
}

/// A pod of that name, with a port of the node (the second) for one of its own (the first).
pub(crate) fn pod(name: &str, parent: &str, ports: &[(i32, i32)]) -> PodSandboxConfig {
    let mapping = |&(container_port, host_port): &(i32, i32)| PortMapping { container_port, host_port };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: "tests".to_owned(),
        }),
        hostname: name.to_owned(),
        log_directory: format!("/run/logs/{name}"),
        port_mappings: ports.iter().map(mapping).collect(),
        annotations: HashMap::from([("kubernetes.io/ingress-bandwidth".to_owned(), INGRESS.to_owned())]),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: parent.to_owned() }),
    }
}

/// Bits a second that every pod may receive.
pub(crate) const INGRESS: &str = "800M";

fn of(pod: &str) -> PodSandboxId {
    PodSandboxId { pod_sandbox_id: pod.to_owned() }
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, tag = "1")]
    status: Option<RuntimeStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<RuntimeCondition>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeCondition {
    #[prost(bool, tag = "2")]
    status: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSandboxConfig {
    #[prost(message, tag = "1")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, repeated, tag = "5")]
    port_mappings: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "7")]
    annotations: HashMap<String, String>,
    #[prost(message, tag = "8")]
    linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

/// The protocol is field 1, and TCP its default.
#[derive(Clone, PartialEq, Message)]
struct PortMapping {
    #[prost(int32, tag = "2")]
    container_port: i32,
    #[prost(int32, tag = "3")]
    host_port: i32,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandboxRequest {
    #[prost(message, tag = "1")]
    config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxId {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxStatusResponse {
    #[prost(message, tag = "1")]
    status: Option<PodSandboxStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxStatus {
    #[prost(message, tag = "5")]
    network: Option<PodSandboxNetworkStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxNetworkStatus {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    additional_ips: Vec<PodIp>,
}

#[derive(Clone, PartialEq, Message)]
struct PodIp {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(string, tag = "11")]
    log_path: String,
    #[prost(message, tag = "15")]
    linux: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerId {
    #[prost(string, tag = "1")]
    container_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, repeated, tag = "2")]
    cmd: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncResponse {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

const PATIENCE: Duration = Duration::from_secs(60);
