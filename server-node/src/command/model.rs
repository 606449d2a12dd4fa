//! `defim model`.

use std::path::{Path, PathBuf};

use defim_protocol::Digest;

use super::{mesh::MeshClient, out};
use crate::{
    cli::{ModelCommand, ModelFormat},
    failure::{Failure, Outcome},
};

/// Without `force`, a file that is there is never written over: it may be rows.
fn write(path: &Path, bytes: &[u8], force: bool) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    match force {
        true => options.write(true).create(true).truncate(true),
        false => options.write(true).create_new(true),
    };
    let file = options.open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => std::io::Error::other(
            "it is there already; name another file with --out, or write over it with --force",
        ),
        _ => e,
    });
    std::io::Write::write_all(&mut file?, bytes)
}

/// Run it.
///
/// # Errors
///
/// [`Failure`].
pub async fn run(command: ModelCommand, json: bool) -> Outcome {
    let ModelCommand::Export {
        task,
        mesh,
        format,
        out: path,
        force,
    } = command;
    let client = MeshClient::new(&mesh)?;
    let view = client.task(&task).await?;
    let joined = view.join()?;
    let bytes = client.model(&view.current_model).await?;
    let found = Digest::of(&bytes);
    if found != view.current_model {
        return Err(Failure::Integrity(format!(
            "the mesh sent a model with digest {found}, but announces {}; nothing was written",
            view.current_model
        )));
    }
    defim_learn::Model::from_safetensors(&bytes, joined.spec()).map_err(|e| {
        Failure::Integrity(format!(
            "the mesh sent no model of this task: {e}; nothing was written"
        ))
    })?;
    let ModelFormat::Safetensors = format;
    let path = path.unwrap_or_else(|| PathBuf::from(format!("{}.safetensors", view.name)));
    write(&path, &bytes, force)
        .map_err(|e| Failure::Input(format!("{} cannot be written: {e}", path.display())))?;
    if json {
        out::json(
            &serde_json::json!({ "file": path, "digest": found, "bytes": bytes.len(), "rounds": view.rounds_done }),
        );
    } else {
        println!(
            "{}: {} bytes, {} after {} rounds",
            path.display(),
            bytes.len(),
            found,
            view.rounds_done
        );
    }
    Ok(())
}
