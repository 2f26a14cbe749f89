//! The TLS handshake with a client.

use std::io;

use gateway_core::session::Subject;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ProtocolVersion};
use tokio_rustls::server::TlsStream;

use super::prefixed::Prefixed;
use crate::telemetry::metrics::HandshakeFailure;
use crate::tls::{ListenerTls, subject_of};

/// What the handshake has shown of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// "TLSv1.3", as others write it.
    pub version: &'static str,
    /// By the client's certificate, where clients must have one.
    pub subject: Option<Subject>,
}

/// Whether somebody begins a TLS handshake: a record of that type, of any version there is.
pub(super) fn is_hello(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16] | [0x16, 3, ..])
}

/// Completes a handshake, however long it takes.
pub(super) async fn accept(
    socket: Prefixed,
    tls: &ListenerTls,
) -> Result<(Box<TlsStream<Prefixed>>, TlsInfo), HandshakeFailure> {
    let accepted = TlsAcceptor::from(tls.current()).accept(socket).await;
    let stream = accepted.map_err(|error| failure(&error))?;
    let info = info(&stream);
    Ok((Box::new(stream), info))
}

fn info(stream: &TlsStream<Prefixed>) -> TlsInfo {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    TlsInfo {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        subject: certificate.map(|der| subject_of(der)),
    }
}

fn failure(error: &io::Error) -> HandshakeFailure {
    use rustls::Error as E;
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<E>()) else {
        return HandshakeFailure::Closed;
    };
    match error {
        E::NoCertificatesPresented | E::InvalidCertificate(_) => {
            HandshakeFailure::ClientCertificate
        }
        E::PeerIncompatible(_) | E::NoApplicationProtocol => HandshakeFailure::Incompatible,
        E::AlertReceived(_) => HandshakeFailure::Alert,
        _ => HandshakeFailure::Other,
    }
}
