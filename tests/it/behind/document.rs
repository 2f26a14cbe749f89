//! The blocks of `docs/behind-a-proxy.md` and `docs/behind-a-balancer.md`, and what stands in the place of its addresses.

use std::net::SocketAddr;

use e2e_tests::farm::{FarmBuilder, ORIGIN};

use crate::tidy::tree;

/// The fenced block behind `<!-- run: NAME -->`.
#[track_caller]
pub fn block(name: &str) -> String {
    let document = ["docs/behind-a-proxy.md", "docs/behind-a-balancer.md"].map(tree::read).concat();
    let marker = format!("<!-- run: {name} -->\n```");
    let (_, after) = document.split_once(&marker).unwrap_or_else(|| panic!("no block {name}"));
    let (_, block) = after.split_once('\n').expect("a fence is a line");
    let (block, _) = block.split_once("\n```").expect("the block ends");
    format!("{block}\n").replace("uploads.example.com", ORIGIN)
}

/// The block of a proxy that listens at `own` in front of a gateway.
#[track_caller]
pub fn proxy(name: &str, gateway: SocketAddr, ops: SocketAddr, own: SocketAddr) -> String {
    let places = [
        ("listen 80;", format!("listen {own};")),
        ("bind :80", format!("bind {own}")),
        ("<VirtualHost *:80>", format!("Listen {own}\n<VirtualHost {own}>")),
        ("http_port 80 ", format!("http_port {own} ")),
        ("varnishd -a :80 ", format!("varnishd -a {own} ")),
        ("check port 9080", format!("check addr {} port {}", ops.ip(), ops.port())),
        ("10.0.0.5:8080", gateway.to_string()),
        ("10.0.0.5", gateway.ip().to_string()),
        ("parent 8080", format!("parent {}", gateway.port())),
        ("\"8080\"", format!("\"{}\"", gateway.port())),
    ];
    places.iter().fold(block(name), |text, (from, to)| text.replace(from, to))
}

/// The settings of a block of the gateway's, for a farm whose proxies run on this machine.
#[track_caller]
pub fn configured(name: &str, mut farm: FarmBuilder) -> FarmBuilder {
    let text = block(name)
        .replace("10.0.0.5:8080", "{{listen:public}}")
        .replace("10.0.0.5:9080", "{{listen:ops}}")
        .replace("10.0.0.4", "127.0.0.1");
    let mut table = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        match (line.strip_prefix('['), line.split_once(" = ")) {
            (Some(name), _) => table = name.trim_end_matches(']'),
            (None, Some((key, value))) => farm = farm.set(&format!("{table}.{key}"), value),
            (None, None) => panic!("no setting: {line}"),
        }
    }
    farm
}
