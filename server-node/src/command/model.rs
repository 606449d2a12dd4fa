//! `defim model`.

use std::path::PathBuf;

use defim_protocol::Digest;

use super::{mesh::MeshClient, out};
use crate::{
    cli::{ModelCommand, ModelFormat},
    failure::{Failure, Outcome},
};

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
    std::fs::write(&path, &bytes)
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
