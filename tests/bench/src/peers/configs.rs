//! The configuration of each peer, as a good administrator writes it for BITS uploads.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Setup;

/// Where a peer runs.
pub struct Place<'a> {
    pub directory: &'a Path,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    pub threads: usize,
}

/// Client connections that each peer has to carry at once.
const CONNECTIONS: usize = 4000;

/// Certificate and key in one file, as HAProxy wants them.
pub fn pem(setup: &Setup, place: &Place<'_>) -> io::Result<PathBuf> {
    let file = place.directory.join("server.pem");
    std::fs::write(&file, format!("{}{}", setup.issued.certificate, setup.issued.key))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// `http-reuse always` and `maxconn` are in HAProxy's favour: fewer connections to servers. The table learns the id from
/// the answer to Create-Session and is not written by Fragments.
pub fn haproxy(setup: &Setup, place: &Place<'_>, large_buffers: bool) -> io::Result<String> {
    let pem = pem(setup, place)?;
    let mut text =
        format!("global\n    nbthread {}\n    maxconn {CONNECTIONS}\n    no log\n", place.threads);
    if large_buffers {
        text += "    tune.bufsize 65536\n";
        if setup.programs.haproxy_version >= (2, 9) {
            text += "    tune.disable-zero-copy-forwarding\n";
        }
    }
    let _ = write!(
        text,
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 130s\n    \
         timeout http-keep-alive 75s\n    timeout server 320s\n    option http-keep-alive\n\
         frontend uploads\n    bind {}\n    bind {} ssl crt {}\n    default_backend farm\n\
         backend farm\n    balance leastconn\n    http-reuse always\n    \
         stick-table type string len 100 size {} expire 14d\n    \
         stick match req.hdr(BITS-Session-Id)\n    \
         stick store-response res.hdr(BITS-Session-Id)\n",
        place.plain,
        place.tls,
        pem.display(),
        setup.sessions
    );
    for (number, server) in setup.servers.iter().enumerate() {
        let _ = writeln!(text, "    server up{number:02} {server} check inter 5s");
    }
    Ok(text)
}

/// The free nginx learns no ids from answers, so it gets one server.
pub fn nginx(setup: &Setup, place: &Place<'_>) -> io::Result<String> {
    let pem = pem(setup, place)?;
    let folder = place.directory.display();
    let mut places = String::new();
    for what in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(places, "    {what}_temp_path {folder}/{what};");
    }
    let pem = pem.display();
    Ok(format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\n\
         events {{ worker_connections {}; }}\nhttp {{\n    access_log off;\n{places}    \
         upstream farm {{\n        server {};\n        keepalive {CONNECTIONS};\n        \
         keepalive_requests 1000000000;\n    }}\n    keepalive_requests 1000000000;\n    \
         server {{\n        listen {};\n        listen {} ssl;\n        ssl_certificate {pem};\n        \
         ssl_certificate_key {pem};\n        ssl_protocols TLSv1.3;\n        client_max_body_size 0;\n        \
         client_body_timeout 130s;\n        location / {{\n            proxy_pass http://farm;\n            \
         proxy_http_version 1.1;\n            proxy_set_header Connection \"\";\n            \
         proxy_set_header Host $http_host;\n            proxy_request_buffering off;\n            \
         proxy_read_timeout 320s;\n        }}\n    }}\n}}\n",
        3 * CONNECTIONS,
        setup.servers[0],
        place.plain,
        place.tls,
    ))
}

pub fn gateway(
    setup: &Setup,
    place: &Place<'_>,
    access_log: bool,
    durable: bool,
) -> io::Result<String> {
    let folder = place.directory.display();
    let key = place.directory.join("server-key.pem");
    std::fs::write(place.directory.join("certificate.pem"), &setup.issued.certificate)?;
    std::fs::write(&key, &setup.issued.key)?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    let access = if access_log { format!("{folder}/access.log") } else { "off".to_owned() };
    let store =
        if durable { format!("path = \"{folder}/store\"") } else { "kind = \"memory\"".to_owned() };
    // A Ping of the gateway's own would arrive as one more packet than was sent.
    let mut text = format!(
        "[listeners.plain]\naddress = \"{}\"\n\
         [listeners.secure]\naddress = \"{}\"\ntls.certificate = \"{folder}/certificate.pem\"\n\
         tls.key = \"{folder}/server-key.pem\"\n\
         [process]\nthreads = {}\nupgrade_socket = \"off\"\n[ops]\naddress = \"off\"\n\
         [log]\nlevel = \"warn\"\naccess = \"{access}\"\n[store]\n{store}\n\
         [sessions]\nlimit = {}\nlimit_per_client = 0\n\
         [limits]\nconnections = {CONNECTIONS}\nconnections_per_address = 0\n\
         [health]\nping_folders = false\n",
        place.plain, place.tls, place.threads, setup.sessions
    );
    for (number, server) in setup.servers.iter().enumerate() {
        let _ = write!(text, "[[backends]]\nname = \"up{number:02}\"\naddress = \"{server}\"\n");
    }
    Ok(text)
}
