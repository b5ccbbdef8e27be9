//! `io::Error` as a task's error: the caller gets one with the same kind, number and message.

use crate::codec::{ByValue, Coded, Probe, Reader, Writer};
use crate::report::Report;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};

/// An `io::Error` as it is sent.
#[derive(Serialize, Deserialize)]
pub(crate) enum TravellingIo {
    /// The OS error number.
    System(i32),
    /// A kind, and nothing else: its place in [`KINDS`].
    Kind(u8),
    /// A kind, and an error of any type.
    Custom(u8, Report),
}

/// The kinds that have names. Both sides are the same build.
const KINDS: [ErrorKind; 39] = {
    use ErrorKind::*;
    [
        Other,
        NotFound,
        PermissionDenied,
        ConnectionRefused,
        ConnectionReset,
        HostUnreachable,
        NetworkUnreachable,
        ConnectionAborted,
        NotConnected,
        AddrInUse,
        AddrNotAvailable,
        NetworkDown,
        BrokenPipe,
        AlreadyExists,
        WouldBlock,
        NotADirectory,
        IsADirectory,
        DirectoryNotEmpty,
        ReadOnlyFilesystem,
        StaleNetworkFileHandle,
        InvalidInput,
        InvalidData,
        TimedOut,
        WriteZero,
        StorageFull,
        NotSeekable,
        QuotaExceeded,
        FileTooLarge,
        ResourceBusy,
        ExecutableFileBusy,
        Deadlock,
        CrossesDevices,
        TooManyLinks,
        InvalidFilename,
        ArgumentListTooLong,
        Interrupted,
        Unsupported,
        UnexpectedEof,
        OutOfMemory,
    ]
};

impl From<&io::Error> for TravellingIo {
    fn from(error: &io::Error) -> Self {
        if let Some(number) = error.raw_os_error() {
            return Self::System(number);
        }
        let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(0);
        // There are as many as a byte can count.
        let kind = kind as u8;
        match error.get_ref() {
            Some(inner) => Self::Custom(kind, Report::of_said(inner, || None)),
            None if error.to_string() == error.kind().to_string() => Self::Kind(kind),
            // One with a text, which the standard library makes.
            None => Self::Custom(kind, Report::of_said(error, || None)),
        }
    }
}

impl From<TravellingIo> for io::Error {
    fn from(travelling: TravellingIo) -> Self {
        let kind = |place: u8| KINDS.get(usize::from(place)).copied().unwrap_or(ErrorKind::Other);
        match travelling {
            TravellingIo::System(number) => Self::from_raw_os_error(number),
            TravellingIo::Kind(place) => kind(place).into(),
            TravellingIo::Custom(place, report) => Self::new(kind(place), report),
        }
    }
}

impl<T: Serialize + DeserializeOwned> ByValue<Result<T, io::Error>> for &&&&Probe<Result<T, io::Error>> {
    fn encode(&self, value: &Result<T, io::Error>, writer: &mut Writer) -> Coded<()> {
        writer.value(&value.as_ref().map_err(TravellingIo::from))
    }

    fn decode(&self, reader: &mut Reader<'_>) -> Coded<Result<T, io::Error>> {
        let value: Result<T, TravellingIo> = reader.value()?;
        Ok(value.map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn travelled(error: &io::Error) -> io::Error {
        let mut writer = Writer::new();
        writer.value(&TravellingIo::from(error)).unwrap();
        Reader::new(&writer.into_bytes()).value::<TravellingIo>().unwrap().into()
    }

    #[test]
    fn every_kind_arrives() {
        for (place, kind) in KINDS.into_iter().enumerate() {
            assert!(!KINDS[..place].contains(&kind), "{kind:?} is there twice");
            for error in [io::Error::from(kind), io::Error::new(kind, "text")] {
                let arrived = travelled(&error);
                assert_eq!((arrived.kind(), arrived.to_string()), (kind, error.to_string()));
            }
        }
    }

    #[test]
    fn numbers_and_texts_arrive() {
        let system = travelled(&io::Error::from_raw_os_error(2));
        assert_eq!((system.raw_os_error(), system.kind()), (Some(2), ErrorKind::NotFound));
        // It has a text that is no error of its own.
        let end = (&b"x"[..]).read_exact(&mut [0; 2]).unwrap_err();
        let arrived = travelled(&end);
        assert_eq!((arrived.kind(), arrived.to_string()), (ErrorKind::UnexpectedEof, end.to_string()));
    }

    #[test]
    fn an_unknown_kind_is_other() {
        assert_eq!(io::Error::from(TravellingIo::Kind(u8::MAX)).kind(), ErrorKind::Other);
    }
}
