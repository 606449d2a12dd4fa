use std::{collections::VecDeque, sync::Mutex};

use rand::Rng as _;

use super::*;
use crate::{channel::MAX_MESSAGE, fuzz::fuzz};

/// A channel to nobody: what comes is given, what is sent is kept, up to a limit.
#[derive(Default)]
struct Given {
    coming: VecDeque<Bytes>,
    sent: Arc<Mutex<Vec<Bytes>>>,
    window: Option<u64>,
    /// The other side says no more, and stays.
    stays: bool,
    closed: bool,
}

impl Channel for Given {
    fn window(&self) -> Option<u64> {
        self.window
    }

    fn poll_message(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        match self.coming.pop_front() {
            None if self.stays => Poll::Pending,
            message => Poll::Ready(Ok(message)),
        }
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.sent.lock().unwrap().len() > 50 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, message: Bytes) -> io::Result<()> {
        assert!(message.len() <= MAX_MESSAGE);
        self.sent.lock().unwrap().push(message);
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn close(&mut self) {
        self.closed = true;
    }

    type Runtime = ();

    fn runtime(&self) {}

    fn finish((): (), work: impl Future<Output = ()> + Send + 'static) {
        let _ = pin!(work).poll(&mut Context::from_waker(Waker::noop()));
    }
}

fn data(bytes: &[u8]) -> Message {
    Message {
        payload: Some(bytes.to_vec().into()),
        ..Message::default()
    }
}

fn given(messages: &[Message]) -> Given {
    Given {
        coming: messages.iter().map(Message::to_bytes).collect(),
        ..Given::default()
    }
}

fn read(stream: &mut Stream<Given>, most: usize) -> Poll<io::Result<Vec<u8>>> {
    let mut buf = vec![0; most];
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_read(&mut cx, &mut buf).map_ok(|n| {
        buf.truncate(n);
        buf
    })
}

fn write(stream: &mut Stream<Given>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_write(&mut cx, bytes)
}

fn told(sent: &Mutex<Vec<Bytes>>) -> Vec<Message> {
    let mut bytes = BytesMut::new();
    for message in sent.lock().unwrap().iter() {
        bytes.extend_from_slice(message);
    }
    std::iter::from_fn(|| Message::take(&mut bytes).unwrap()).collect()
}

#[test]
fn a_writer_keeps_to_the_credit_it_was_given() {
    let credit = |credit| Message {
        credit: Some(credit),
        ..Message::default()
    };
    let mut channel = given(&[credit(10), credit(5)]);
    let later = channel.coming.pop_back().unwrap();
    channel.stays = true;
    let sent = channel.sent.clone();
    let mut stream = Stream::new(channel);
    // What has come is seen by the reader, and by the writer that may not go on.
    assert!(read(&mut stream, 10).is_pending());
    assert!(matches!(write(&mut stream, &[1; 100]), Poll::Ready(Ok(10))));
    assert!(write(&mut stream, &[1; 100]).is_pending());
    stream.0.as_mut().unwrap().channel.coming.push_back(later);
    assert!(matches!(write(&mut stream, &[1; 100]), Poll::Ready(Ok(5))));
    assert!(write(&mut stream, &[1; 100]).is_pending());
    let payload: usize = told(&sent)
        .iter()
        .filter_map(|m| m.payload.as_ref())
        .map(Bytes::len)
        .sum();
    assert_eq!(payload, 15);
}

#[test]
fn a_reader_grants_its_window_and_then_what_it_has_read() {
    let mut channel = given(&[data(&[7; 900]), data(&[7; 100])]);
    (channel.window, channel.stays) = (Some(1000), true);
    let sent = channel.sent.clone();
    let mut stream = Stream::new(channel);
    let mut total = 0;
    while let Poll::Ready(Ok(bytes)) = read(&mut stream, 64) {
        total += bytes.len();
        let granted: u64 = told(&sent).iter().filter_map(|m| m.credit).sum();
        assert!(granted <= 1000 + total as u64 && granted + 250 >= 1000 + total as u64 - 64);
    }
    assert_eq!(total, 1000);
}

#[test]
fn the_end_is_acknowledged_once_it_was_read() {
    let mut channel = given(&[data(b"abc"), Message::of(Flag::Fin)]);
    channel.stays = true;
    let sent = channel.sent.clone();
    let mut stream = Stream::new(channel);
    assert!(matches!(read(&mut stream, 2), Poll::Ready(Ok(bytes)) if bytes == b"ab"));
    let acked = |sent| told(sent).contains(&Message::of(Flag::FinAck));
    assert!(!acked(&sent));
    assert!(matches!(read(&mut stream, 2), Poll::Ready(Ok(bytes)) if bytes == b"c"));
    assert!(matches!(read(&mut stream, 2), Poll::Ready(Ok(bytes)) if bytes.is_empty()));
    assert!(acked(&sent));
}

#[test]
fn broken_frames_do_no_harm() {
    let stop = Message::of(Flag::StopSending);
    let credit = Message {
        credit: Some(u64::MAX),
        flag: Some(Flag::Fin.into()),
        payload: Some(vec![9; 30].into()),
    };
    let good: Vec<_> = [
        data(&[1; 300]),
        stop,
        credit,
        Message::of(Flag::FinAck),
        Message::of(Flag::Reset),
        data(&[]),
    ]
    .iter()
    .map(|message| message.to_bytes().to_vec())
    .collect();
    let long: Vec<_> = good.iter().flatten().copied().collect();
    let good = [good, vec![long]].concat();
    fuzz("frames", &good, |rng, bytes| {
        let mut channel = Given {
            stays: rng.random(),
            window: rng.random::<bool>().then_some(1000),
            ..Given::default()
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rng.random_range(0..=rest.len().min(MAX_MESSAGE)));
            channel.coming.push_back(part.to_vec().into());
            rest = after;
        }
        let mut stream = Stream::new(channel);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..30 {
            match rng.random_range(0..6) {
                0..3 => drop(read(&mut stream, rng.random_range(1..400))),
                3 => drop(write(&mut stream, &vec![3; rng.random_range(1..40_000)])),
                4 => drop(Pin::new(&mut stream).poll_flush(&mut cx)),
                _ if rng.random_range(0..8) == 0 => drop(Pin::new(&mut stream).poll_close(&mut cx)),
                _ => {}
            }
            let inner = stream.0.as_ref().unwrap();
            assert!(inner.arriving.len() + inner.payload.len() <= 3 * MAX_MESSAGE);
        }
    });
}
