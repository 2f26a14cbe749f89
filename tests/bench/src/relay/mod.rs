//! The floor: the least that carrying packets costs a program on tokio. `bench-suite relay`.
//!
//! It finds where messages end by `Content-Length`, keeps connections to one server, and knows nothing else: no sessions,
//! no checks, no timeouts, no log.

mod splice;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use crate::{tls, wire};

/// Of each connection, for what is read at once.
const BUFFER: usize = 64 * 1024;

/// A rest of a body from this on is spliced, where that is asked for.
const WORTH_SPLICING: u64 = 32 * 1024;

#[derive(clap::Args, Debug)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    listen_tls: SocketAddr,
    #[arg(long)]
    server: SocketAddr,
    /// Certificate and key, one behind the other.
    #[arg(long)]
    pem: PathBuf,
    #[arg(long)]
    splice: bool,
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

struct Relay {
    server: SocketAddr,
    splice: bool,
    /// Connections to the server without a request, the newest last.
    idle: RefCell<Vec<TcpStream>>,
    pipes: RefCell<Vec<splice::Pipe>>,
}

/// Relays until the process is ended.
pub fn run(options: &Options) -> Result<(), String> {
    let pem = std::fs::read_to_string(&options.pem).map_err(|error| error.to_string())?;
    let tls = tls::server(&pem)?;
    let bind = |address| {
        let listener = StdListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        // The standard library lets 128 wait.
        rustix::net::listen(&listener, 4096).map_err(|error| error.to_string())?;
        Ok::<_, String>(listener)
    };
    let (plain, secure) = (bind(options.listen)?, bind(options.listen_tls)?);
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| thread(options, &plain, &secure, &tls).expect("a runtime"));
        }
    });
    Ok(())
}

/// A runtime of its own, which serves what it accepts.
fn thread(
    options: &Options,
    plain: &StdListener,
    secure: &StdListener,
    tls: &Arc<ServerConfig>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let relay = Rc::new(Relay {
        server: options.server,
        splice: options.splice,
        idle: RefCell::default(),
        pipes: RefCell::default(),
    });
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let plain = TcpListener::from_std(plain.try_clone()?)?;
        let secure = TcpListener::from_std(secure.try_clone()?)?;
        let acceptor = TlsAcceptor::from(Arc::clone(tls));
        loop {
            tokio::select! {
                accepted = plain.accept() => {
                    let (client, _) = accepted?;
                    let relay = Rc::clone(&relay);
                    tokio::task::spawn_local(async move { relay.serve_plain(client).await });
                }
                accepted = secure.accept() => {
                    let (client, _) = accepted?;
                    let (relay, acceptor) = (Rc::clone(&relay), acceptor.clone());
                    tokio::task::spawn_local(async move {
                        client.set_nodelay(true)?;
                        let mut client = acceptor.accept(client).await?;
                        let mut buffer = vec![0; BUFFER];
                        while relay.packet(&mut client, &mut buffer).await? {}
                        client.shutdown().await
                    });
                }
            }
        }
    })
}

impl Relay {
    async fn serve_plain(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut buffer = vec![0; BUFFER];
        while self.packet(&mut client, &mut buffer).await? {}
        Ok(())
    }

    /// One request and its answer. `false` at the end of the connection.
    async fn packet(&self, client: &mut impl Client, buffer: &mut [u8]) -> io::Result<bool> {
        let Some((head, body, filled)) = read_head(client, buffer).await? else {
            return Ok(false);
        };
        let idle = self.idle.borrow_mut().pop();
        let mut server = match idle {
            Some(server) => server,
            None => {
                let server = TcpStream::connect(self.server).await?;
                server.set_nodelay(true)?;
                server
            }
        };
        let mut left = (head as u64 + body)
            .checked_sub(filled as u64)
            .ok_or_else(|| io::Error::other("more than one request at once"))?;
        server.write_all(&buffer[..filled]).await?;
        if self.splice
            && left >= WORTH_SPLICING
            && let Some(client) = client.plain()
        {
            let pipe = self.pipes.borrow_mut().pop();
            let pipe = pipe.map_or_else(splice::Pipe::new, Ok)?;
            let pipe = splice::body(client, &server, pipe, left).await?;
            self.pipes.borrow_mut().push(pipe);
            left = 0;
        }
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = client.read(&mut buffer[..most]).await?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            server.write_all(&buffer[..read]).await?;
            left -= read as u64;
        }
        let answer = read_head(&mut server, buffer).await?;
        let (_, 0, filled) = answer.ok_or(ErrorKind::UnexpectedEof)? else {
            return Err(io::Error::other("an Ack with a body"));
        };
        client.write_all(&buffer[..filled]).await?;
        client.flush().await?;
        self.idle.borrow_mut().push(server);
        Ok(true)
    }
}

trait Client: AsyncRead + AsyncWrite + Unpin {
    /// The socket, where its bytes are the client's own.
    fn plain(&self) -> Option<&TcpStream>;
}

impl Client for TcpStream {
    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Client for TlsStream<TcpStream> {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}

/// The lengths of head and body, and how much of both was read. `None` at the end of the stream.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
) -> io::Result<Option<(usize, u64, usize)>> {
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
        if let Some((head, body)) = wire::frame(&buffer[..filled]) {
            return Ok(Some((head, body, filled)));
        }
    }
}
