//! A model that takes 200 ms: Gemini's wire format over bare HTTP/1.1, so that it costs next to nothing beside its
//! caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use platform::task::{self, Stop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::load::{Load, Marker};

/// How long every response takes.
pub(crate) const TAKES: Duration = Duration::from_millis(200);

/// A running model; ends when dropped.
pub(crate) struct Model {
    pub(crate) address: SocketAddr,
    stop: Stop,
}

impl Model {
    /// Starts one that notifies these contacts of its calls.
    pub(crate) async fn start(load: Arc<Load>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = Stop::new();
        let stopped = stop.clone();
        task::spawn("model", async move {
            while let Some(Ok((stream, _))) = stopped.run_until_cancelled(listener.accept()).await {
                let (load, stopped) = (Arc::clone(&load), stopped.clone());
                task::spawn("model connection", async move {
                    stopped.run_until_cancelled(answer_all(stream, &load)).await;
                });
            }
        });
        Ok(Model { address, stop })
    }

    /// Its address as a setting.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Answers one connection's requests until it closes.
async fn answer_all(mut stream: TcpStream, load: &Load) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut bytes = Vec::with_capacity(16 * 1024);
    loop {
        let length = request(&mut stream, &mut bytes).await?;
        let marker = Marker::last_in(&bytes[..length])?;
        bytes.drain(..length);
        load.asked(marker);
        tokio::time::sleep(TAKES).await;
        stream.write_all(answer(marker).as_bytes()).await.ok()?;
    }
}

/// Reads until a request is complete; returns its length.
async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(head) = bytes.windows(4).position(|it| it == b"\r\n\r\n").map(|it| it + 4) {
            let text = std::str::from_utf8(&bytes[..head]).ok()?.to_ascii_lowercase();
            let length = text.lines().find_map(|it| it.strip_prefix("content-length:"));
            let length = head + length.map_or(Some(0), |it| it.trim().parse::<usize>().ok())?;
            if bytes.len() >= length {
                return Some(length);
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn answer(marker: Marker) -> String {
    let body = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":"Claro! Temos horário na quinta às 15h. Posso confirmar? {}"}}],"role":"model"}},"finishReason":"STOP","index":0}}],"usageMetadata":{{"promptTokenCount":310,"candidatesTokenCount":24,"totalTokenCount":334}},"modelVersion":"gemini-2.5-flash","responseId":"bench"}}"#,
        marker.text()
    );
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
