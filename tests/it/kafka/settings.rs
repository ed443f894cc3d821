//! A broker's configuration file, from what the cluster is to be.

use std::path::Path;

use super::access::Access;
use super::cluster::Spec;

/// The listeners of one broker.
#[derive(Clone, Copy)]
pub struct Ports {
    pub plain: u16,
    pub controller: u16,
    pub scram: u16,
    pub mtls: u16,
}

/// The configuration of broker number `broker`, which is its own controller as all of them are. Its records are in a
/// folder of its own in `folder`.
pub fn of_broker(broker: usize, all: &[Ports], spec: Spec, folder: &Path, access: Option<&Access>) -> String {
    let Ports { plain, controller, scram, mtls } = all[broker];
    let id = broker + 1;
    let voters: Vec<String> =
        all.iter().zip(1..).map(|(ports, id)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
    let (doors, protocols, secured) = match access {
        None => (String::new(), "", String::new()),
        Some(access) => {
            (format!(",SCRAM://127.0.0.1:{scram},MTLS://127.0.0.1:{mtls}"), ",SCRAM:SASL_SSL,MTLS:SSL", secured(access))
        }
    };
    format!(
        "node.id={id}\n\
         process.roles=broker,controller\n\
         controller.quorum.voters={}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAIN\n\
         listeners=PLAIN://127.0.0.1:{plain}{doors},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAIN://127.0.0.1:{plain}{doors}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAIN:PLAINTEXT{protocols}\n\
         log.dirs={}\n\
         {}{secured}{FIXED}",
        voters.join(","),
        folder.join(format!("broker-{id}")).display(),
        copies(spec),
    )
}

fn copies(Spec { replication, min_isr, .. }: Spec) -> String {
    format!(
        "default.replication.factor={replication}\n\
         min.insync.replicas={min_isr}\n\
         offsets.topic.replication.factor={replication}\n\
         transaction.state.log.replication.factor={replication}\n\
         transaction.state.log.min.isr={min_isr}\n\
         share.coordinator.state.topic.replication.factor={replication}\n\
         share.coordinator.state.topic.min.isr={min_isr}\n"
    )
}

fn secured(access: &Access) -> String {
    format!(
        "sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         listener.name.scram.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={}\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={}\n\
         listener.name.mtls.ssl.client.auth=required\n\
         ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:admin;User:ANONYMOUS\n",
        access.server_store().display(),
        access.authority().display(),
    )
}

/// The same for every broker: no topic by accident, few threads and small files, and a group or a broker that fails is
/// noticed in seconds. Compaction's buffer is on the heap and 128 MiB by default.
const FIXED: &str = "\
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=2
num.partitions=4
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
log.segment.bytes=16777216
log.cleaner.dedupe.buffer.size=2097153
group.coordinator.rebalance.protocols=classic,consumer
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=3000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
";
