//! What is written to a client, on its way out: a small piece waits for the next one, and goes with it in one call. A head
//! and the body behind it leave as one packet however large the body is, and a small answer is one write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::AsyncWrite;

/// Pieces wait until there are this many bytes.
const ROOM: usize = 4096;

/// What waits.
#[derive(Default)]
pub(super) struct Sending {
    bytes: Vec<u8>,
    /// So much of it is gone.
    gone: usize,
}

impl Sending {
    /// Takes some of `piece`: it waits, or goes behind what waits.
    pub(super) fn write(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        piece: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() + piece.len() <= ROOM {
            self.bytes.extend_from_slice(piece);
            return Poll::Ready(Ok(piece.len()));
        }
        loop {
            let first = self.bytes.get(self.gone..).unwrap_or_default();
            let pieces = [IoSlice::new(first), IoSlice::new(piece)];
            let count = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &pieces))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            match count.checked_sub(first.len()) {
                Some(count) => {
                    self.clear();
                    if count > 0 {
                        return Poll::Ready(Ok(count));
                    }
                }
                None => self.gone += count,
            }
        }
    }

    /// Sends all that waits.
    pub(super) fn flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.gone..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.gone += count,
            }
        }
        self.clear();
        Pin::new(stream).poll_flush(cx)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.gone = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    async fn sent(pieces: &[Vec<u8>], flushes: &[bool]) -> Vec<u8> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        // Little goes at once.
        socket2::SockRef::from(&ours).set_send_buffer_size(2048).unwrap();
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).await.unwrap();
            got
        });
        let mut stream: Stream = Box::new(pingora::protocols::l4::stream::Stream::from(ours));
        let mut sending = Sending::default();
        for (index, piece) in pieces.iter().enumerate() {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let count = poll_fn(|cx| sending.write(&mut stream, cx, rest)).await.unwrap();
                assert!(count > 0);
                rest = &rest[count..];
            }
            if flushes.get(index % flushes.len().max(1)).copied().unwrap_or_default() {
                poll_fn(|cx| sending.flush(&mut stream, cx)).await.unwrap();
                assert!(sending.bytes.is_empty());
            }
        }
        poll_fn(|cx| sending.flush(&mut stream, cx)).await.unwrap();
        drop(stream);
        reader.await.unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn everything_goes_out_once_and_in_order(
            lengths in prop::collection::vec(prop_oneof![0_usize..300, 3900_usize..4300, 0_usize..60_000], 1..8),
            flushes in prop::collection::vec(any::<bool>(), 1..4),
        ) {
            let pieces: Vec<Vec<u8>> = lengths
                .iter()
                .enumerate()
                .map(|(index, length)| (0..*length).map(|at| u8::try_from((at * 7 + index) % 251).unwrap()).collect())
                .collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            prop_assert_eq!(runtime.block_on(sent(&pieces, &flushes)), pieces.concat());
        }
    }
}
