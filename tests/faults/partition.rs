//! Three sites, each with a gateway, a server and a Sentinel, in network namespaces of their own; clients and the backend
//! are at the hub. The site of the master is cut off from the others, with its gateway, whose clients still reach it.

use super::{STORE, Stand, at_last, under};
use crate::harness::net::Net;
use crate::harness::redis::{DURABLE, Server};
use crate::harness::{Backend, Config, eventually, program};
use oncegate::cli::demo::gate::Gate;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

const SITES: usize = 3;

/// Reached from other namespaces.
const EVERYWHERE: [&str; 4] = ["--bind", "0.0.0.0", "--protected-mode", "no"];

/// A server and a Sentinel at each site.
struct Sites<'a> {
    net: &'a Net,
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

// === impl Sites ===

impl Sites<'_> {
    fn start(net: &Net) -> Sites<'_> {
        let mut servers: Vec<Server> = Vec::new();
        for site in 1..=SITES {
            let of = servers.first().map(|master| format!("{} {}", Net::address(1), master.address.port()));
            let mut settings = [&DURABLE[..], &EVERYWHERE[..]].concat();
            if let Some(of) = &of {
                settings.extend(["--replicaof", of]);
            }
            servers.push(net.at(site, || Server::start(&settings)));
        }
        let master = SocketAddr::new(Net::address(1), servers[0].address.port());
        net.at(1, || eventually("the replicas are in step", || servers[0].leads(SITES - 1).then_some(())));
        let sentinels =
            (1..=SITES).map(|site| net.at(site, || Server::sentinel(master, &EVERYWHERE))).collect();
        let sites = Sites { net, servers, sentinels };
        sites.until_known();
        sites
    }

    /// Until every Sentinel knows the others and both replicas.
    fn until_known(&self) {
        for (sentinel, site) in self.sentinels.iter().zip(1..) {
            self.net.at(site, || at_last("it knows all", || sentinel.knows(SITES - 1).then_some(())));
        }
    }

    fn url(&self) -> String {
        let at = self.sentinels.iter().zip(1..);
        let nodes: Vec<String> =
            at.map(|(node, site)| format!("{}:{}", Net::address(site), node.address.port())).collect();
        format!("redis-sentinel://{}/0#main", nodes.join(","))
    }

    /// The site of the master that the Sentinel of `site` names.
    fn master(&self, site: usize) -> Option<usize> {
        let port = self.net.at(site, || self.sentinels[site - 1].master())?;
        self.servers.iter().position(|server| server.address.port() == port).map(|at| at + 1)
    }

    /// Until whoever leads has both replicas again. On a busy machine the Sentinels may choose once more meanwhile.
    fn until_whole(&self) {
        at_last("all follow whoever leads", || {
            let site = self.master(1)?;
            let server = &self.servers[site - 1];
            self.net.at(site, || server.leads(SITES - 1)).then_some(())
        });
        self.until_known();
    }

    fn others(site: usize) -> Vec<usize> {
        (1..=SITES).filter(|other| *other != site).collect()
    }
}

/// Gateways at these sites, before a backend at the hub.
fn stand<R>(redis: R, net: &Net, sites: RangeInclusive<usize>, url: &str) -> Stand<R> {
    let backend = net.at(0, || Backend::start_at(SocketAddr::new(Net::address(0), 8081)));
    let config = Config { store: STORE, ..Config::default() }.text(backend.address).replace("{store}", url);
    let (mut gates, mut directories) = (Vec::new(), Vec::new());
    for site in sites {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::new(Net::address(site), 8080);
        let text = config.replace("{listen}", &address.to_string());
        let mut gate = Gate::new(program(), directory.path(), &text).unwrap();
        gate.address = address;
        net.at(site, || gate.start()).expect("the gate starts");
        gates.push(gate);
        directories.push(directory);
    }
    Stand { gates, backend, redis, _directories: directories }
}

#[test]
fn the_site_of_the_master_is_cut_off() {
    let net = Net::new(SITES);
    let sites = Sites::start(&net);
    let url = sites.url();
    let stand = stand(sites, &net, 1..=SITES, &url);
    let cut = |stand: &mut Stand<Sites<'_>>, _| {
        let sites = &stand.redis;
        let site = sites.master(1).expect("one leads");
        let others = Sites::others(site);
        sites.net.cut(site, &others);
        at_last("the others choose another master", || sites.master(others[0]).filter(|next| *next != site));
        // Writes go on for a while on both sides of the cut.
        std::thread::sleep(Duration::from_secs(2));
        sites.net.heal(site);
        sites.until_whole();
    };
    net.at(0, || under("partition of the master", stand, cut));
}

#[test]
fn the_network_to_the_store_is_lost_for_a_while() {
    let net = Net::new(4);
    let settings = [&DURABLE[..], &EVERYWHERE[..]].concat();
    let server = net.at(1, || Server::start(&settings));
    let url = format!("redis://{}:{}", Net::address(1), server.address.port());
    let stand = stand(server, &net, 2..=4, &url);
    let cut = |_: &mut Stand<Server>, _| {
        net.cut(1, &[2, 3, 4]);
        std::thread::sleep(Duration::from_secs(5));
        net.heal(1);
    };
    net.at(0, || under("5 s without a network to the store", stand, cut));
}
