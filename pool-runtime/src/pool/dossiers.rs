//! Hands a call that was lost with its worker to the [keeper](DossierKeeper) of dossiers.

use crate::dossier::Dossier;
use crate::dossier::file::{LostCall, Recorded};
use crate::dossier::keep::DossierKeeper;
use crate::error::Error;
use crate::memory::Region;
use crate::memory::packed::Slices;
use crate::pool::{Inner, Submission};
use crate::task::TaskInfo;
use crate::{identity, registry};
use std::sync::Arc;

/// Keeps the call if it was lost with its worker. The error's dossier then names the file.
pub(super) fn keep(keeper: &DossierKeeper, inner: &Inner, work: &dyn Submission, index: u32, error: &mut Error) {
    // A call that had not begun is not to blame.
    let began = |dossier: &&mut Dossier| dossier.call.is_some() && dossier.time.is_some();
    let (Some(dossier), Some(info)) = (error.dossier_mut().filter(began), registry::find(work.task())) else { return };
    if keeper.is_full(dossier.loss.seat) {
        return;
    }
    let mut arguments = Vec::new();
    work.with_arguments(index..index + 1, &mut |part| {
        let ends = bytemuck::cast_slice(part.ends);
        let only = Slices::new(1, part.every, ends, part.base, part.bytes).and_then(|mut slices| slices.next());
        arguments.extend_from_slice(only.unwrap_or_default());
    });
    let mut regions: Vec<Arc<Region>> = Vec::new();
    work.with_regions(index..index + 1, &mut |its| regions.extend_from_slice(its));
    let initializer = inner.initializer.as_ref().and_then(|prelude| {
        let call = &prelude.call;
        regions.extend(prelude.regions.iter().cloned());
        Some(recorded(registry::find(&call.task)?, &call.arguments))
    });
    regions.sort_by_key(|region| region.id());
    regions.dedup_by_key(|region| region.id());
    let (job, attempt) = dossier.call.unwrap_or_default();
    let writable: Vec<_> = regions.iter().filter(|region| region.memory().is_writable()).collect();
    // What may be written is copied first, if it is not too much.
    let copied: usize = writable.iter().map(|region| region.memory().length()).sum();
    let contents: Option<Vec<_>> = match copied as u64 <= DossierKeeper::MOST_BYTES {
        true => regions.iter().map(|region| Some((region.id(), region.contents().ok()?))).collect(),
        false => None,
    };
    let is_left_out = contents.is_none();
    let contents = contents.unwrap_or_default();
    let mut call = LostCall {
        build: identity::build(),
        pid: dossier.pid(),
        job,
        attempt,
        call: recorded(info, &arguments),
        initializer,
        regions: contents.iter().map(|(id, bytes)| (*id, &**bytes)).collect(),
        writable: writable.iter().map(|region| region.id()).collect(),
        confinement: inner.source.confinement(),
        left_out: false,
    };
    if is_left_out {
        call.leave_out();
    }
    keeper.keep((&inner.name, &inner.subscriber), call, dossier);
}

fn recorded<'r>(info: &'static TaskInfo, arguments: &'r [u8]) -> Recorded<'r> {
    Recorded { task: info.name(), signature: info.signature_hash(), arguments }
}
