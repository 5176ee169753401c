//! Network namespaces of the test's own: a hub, and sites that can be cut off from each other. Threads and processes that
//! are started inside stay inside. Needs root, `iproute2` and `nftables`.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A hub with sites around it; dropping it takes the namespaces away.
pub struct Net {
    /// The hub's, then those of the sites.
    names: Vec<String>,
}

// === impl Net ===

impl Net {
    /// So many sites.
    pub fn new(sites: usize) -> Net {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mark = format!("gate-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let net = Net { names: (0..=sites).map(|n| format!("{mark}-{n}")).collect() };
        for name in &net.names {
            run(&format!("ip netns add {name}"));
            run(&format!("ip -n {name} link set lo up"));
        }
        let hub = &net.names[0];
        run(&format!("ip -n {hub} link add hub type bridge"));
        run(&format!("ip -n {hub} addr add {}/24 dev hub", Net::address(0)));
        run(&format!("ip -n {hub} link set hub up"));
        for (site, name) in net.names.iter().enumerate().skip(1) {
            run(&format!("ip -n {hub} link add site{site} type veth peer name hub netns {name}"));
            run(&format!("ip -n {hub} link set site{site} master hub up"));
            run(&format!("ip -n {name} addr add {}/24 dev hub", Net::address(site)));
            run(&format!("ip -n {name} link set hub up"));
        }
        net
    }

    /// The address of a site; 0 is the hub.
    pub fn address(site: usize) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, 10 + site as u8).into()
    }

    /// Does something at a site (0: the hub), on a thread that is there.
    pub fn at<T: Send>(&self, site: usize, work: impl FnOnce() -> T + Send) -> T {
        let name = &self.names[site];
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let space = File::open(format!("/run/netns/{name}")).expect("the namespace is there");
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a network namespace");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Lets nothing pass between a site and `others` any more.
    pub fn cut(&self, site: usize, others: &[usize]) {
        let addresses: Vec<String> = others.iter().map(|other| Net::address(*other).to_string()).collect();
        let addresses = addresses.join(", ");
        run_with(
            &format!("ip netns exec {} nft -f -", self.names[site]),
            &format!(
                "table ip cut {{\n chain in {{ type filter hook input priority 0; ip saddr {{ {addresses} }} drop; }}\n \
                 chain out {{ type filter hook output priority 0; ip daddr {{ {addresses} }} drop; }}\n}}\n"
            ),
        );
    }

    /// Takes the cut back.
    pub fn heal(&self, site: usize) {
        run(&format!("ip netns exec {} nft delete table ip cut", self.names[site]));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(line: &str) {
    run_with(line, "");
}

fn run_with(line: &str, input: &str) {
    let needs = "needs root, iproute2 and nftables";
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{line} ({needs}): {error}"));
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line} ({needs}): {}", String::from_utf8_lossy(&output.stderr));
}
