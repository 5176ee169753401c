//! A cluster whose masters are killed in turn with moves of the slot that the operations are in.

use super::{at_last, stand, under};
use crate::harness::eventually;
use crate::harness::redis::{Cluster, DURABLE, Server};
use redis::{Connection, cmd};
use std::time::Duration;

/// Keys that move at once.
const BATCH: usize = 16;

#[test]
fn a_cluster_fails_over_and_moves_slots() {
    let cluster = Cluster::with(&DURABLE);
    let url = cluster.url();
    under("failover of a cluster, a slot on the move", stand(cluster, &url), |stand, cycle| {
        let cluster = &mut stand.redis;
        let (slot, owner) = eventually("the operations have left keys", || busiest(cluster));
        if cycle % 2 == 0 {
            cluster.nodes[owner].kill();
            at_last("its replica leads", || {
                let masters = cluster.masters();
                (masters.len() == 3 && !masters.contains(&owner)).then_some(())
            });
            cluster.nodes[owner].run();
            cluster.until_whole();
        } else {
            let to = cluster.masters().into_iter().find(|master| *master != owner).expect("three lead");
            move_slot(cluster, slot, owner, to);
        }
    });
}

/// The slot with most records, and the master that has it.
fn busiest(cluster: &Cluster) -> Option<(u16, usize)> {
    let found = cluster.masters().into_iter().filter_map(|master| {
        let mut connection = connect(&cluster.nodes[master])?;
        // What is between the braces is all that counts.
        let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*}r:*").query(&mut connection).ok()?;
        let key = keys.first()?;
        let slot: u16 = cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut connection).ok()?;
        Some((keys.len(), slot, master))
    });
    found.max().map(|(_, slot, master)| (slot, master))
}

fn connect(node: &Server) -> Option<Connection> {
    redis::Client::open(node.url()).ok()?.get_connection_with_timeout(Duration::from_secs(2)).ok()
}

/// As an operator does it, key by key; meanwhile the slot is half here and half there.
fn move_slot(cluster: &Cluster, slot: u16, from: usize, to: usize) {
    let (mut source, mut target) =
        (connect(&cluster.nodes[from]).unwrap(), connect(&cluster.nodes[to]).unwrap());
    let id = |connection: &mut Connection| -> String {
        cmd("CLUSTER").arg("MYID").query(connection).expect("a node has an id")
    };
    let (source_id, target_id) = (id(&mut source), id(&mut target));
    let set = |connection: &mut Connection, what: &str, node: &str| {
        cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(what).arg(node).exec(connection)
    };
    set(&mut target, "IMPORTING", &source_id).unwrap();
    set(&mut source, "MIGRATING", &target_id).unwrap();
    loop {
        let keys: Vec<Vec<u8>> =
            cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(BATCH).query(&mut source).unwrap();
        if keys.is_empty() {
            break;
        }
        let address = cluster.nodes[to].address;
        let mut migrate = cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(address.port()).arg("").arg(0).arg(5000).arg("KEYS").arg(keys);
        migrate.exec(&mut source).unwrap();
    }
    set(&mut target, "NODE", &target_id).unwrap();
    set(&mut source, "NODE", &target_id).unwrap();
    for other in cluster.masters() {
        set(&mut connect(&cluster.nodes[other]).unwrap(), "NODE", &target_id).unwrap();
    }
    cluster.until_whole();
}
