//! Opening one's own share of a report, and checking the proof together.
//!
//! With two shares it is one message each way: the leader begins ([`LeaderPending`]), the helper ends it with its answer.
//! With three, the leader cannot end it before it has heard of both helpers: each begins ([`BegunShare`]), the leader
//! makes one message of all prepare shares, and each finishes with that.

use defim_protocol::{
    Credential, Enrolled, Reason, ReportId, RoundNumber, VerifiedManifest, VerifiedRound,
    report::{Ciphertext, Metadata, ROUND_EXTENSION},
    seal::{SealingKey, Seat},
    vdaf::{
        InputShare, NONCE_BYTES, OutputShare, PrepareMessage, PrepareShare, PrepareState,
        PublicShare, UpdateVdaf, VERIFY_KEY_BYTES,
    },
};
use prio::{
    codec::{Decode as _, Encode as _, ParameterizedDecode as _},
    topology::ping_pong::{
        PingPongContinuedValue, PingPongMessage, PingPongState, PingPongTopology as _,
    },
    vdaf::{Aggregator as _, PrepareTransition},
};

type State = PingPongState<VERIFY_KEY_BYTES, NONCE_BYTES, UpdateVdaf>;

/// This member's share of one report: its seal opened, bound to the right round, well formed.
pub struct OpenedShare {
    id: ReportId,
    /// Whose report it says it is.
    credential: Option<Credential>,
    seat: Seat,
    vdaf: UpdateVdaf,
    public_share: PublicShare,
    input_share: InputShare,
}

impl std::fmt::Debug for OpenedShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenedShare({}, redacted)", self.id)
    }
}

impl OpenedShare {
    /// Open the share that was sealed for this member.
    ///
    /// # Errors
    ///
    /// The [`Reason`] for which the report is refused.
    pub fn open(
        task: &VerifiedManifest,
        round: RoundNumber,
        seat: Seat,
        key: &SealingKey,
        metadata: &Metadata,
        public_share: &[u8],
        sealed: &Ciphertext,
    ) -> Result<Self, Reason> {
        let plain = key.open(seat, &task.task(), metadata, public_share, sealed)?;
        let (mut bound, mut credential) = (None, None);
        for extension in &plain.extensions {
            let data = extension.data.as_slice();
            match (extension.kind, extension.as_credential()?) {
                // A second round extension could name another round to another member.
                (ROUND_EXTENSION, _) if bound.is_none() => {
                    bound = Some(<[u8; 8]>::try_from(data).map_err(|_| Reason::Malformed)?);
                }
                (_, Some(one)) if credential.is_none() => credential = Some(one),
                _ => return Err(Reason::UnknownExtension),
            }
        }
        if bound.map(u64::from_be_bytes) != Some(round) {
            return Err(Reason::WrongRound);
        }
        let vdaf = task.vdaf.instance().map_err(|_| Reason::UnknownTask)?;
        let public_share = PublicShare::get_decoded_with_param(&vdaf, public_share)
            .map_err(|_| Reason::InvalidShare)?;
        let input_share =
            InputShare::get_decoded_with_param(&(&vdaf, seat.aggregator_id()), &plain.payload)
                .map_err(|_| Reason::InvalidShare)?;
        Ok(Self {
            id: metadata.id,
            credential,
            seat,
            vdaf,
            public_share,
            input_share,
        })
    }

    /// Check that the report has the id of whose it says it is and is signed by them, where the round asks for it
    /// ([`VerifiedRound::authenticate`]).
    ///
    /// # Errors
    ///
    /// The [`Reason`] for which the report is refused.
    pub fn authentic(self, round: &VerifiedRound, public_share: &[u8]) -> Result<Self, Reason> {
        round.authenticate(&self.id, public_share, self.credential.as_ref())?;
        Ok(self)
    }

    /// Check that a light node that says who it is, is enrolled. Members of the task are.
    ///
    /// # Errors
    ///
    /// [`Reason::NotEnrolled`], which may be another answer a moment later: the ledger tells one node before the other.
    pub fn enrolled(self, known: &dyn Enrolled) -> Result<Self, Reason> {
        match &self.credential {
            Some(Credential::Enrolled { key, .. }) if !known.is_enrolled(key) => {
                Err(Reason::NotEnrolled)
            }
            _ => Ok(self),
        }
    }

    /// Leader of two: begin preparation. The bytes go to the helper.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidShare`] or [`Reason::InvalidProof`].
    pub fn begin(
        self,
        verify_key: &[u8; VERIFY_KEY_BYTES],
    ) -> Result<(LeaderPending, Vec<u8>), Reason> {
        let (state, message) = self
            .vdaf
            .leader_initialized(
                verify_key,
                &(),
                self.id.as_bytes(),
                &self.public_share,
                &self.input_share,
            )
            .map_err(|_| Reason::InvalidProof)?;
        let message = message.get_encoded().map_err(|_| Reason::InvalidShare)?;
        Ok((
            LeaderPending {
                id: self.id,
                vdaf: self.vdaf,
                state,
            },
            message,
        ))
    }

    /// Helper of two: finish preparation with the leader's message. The bytes go back to the leader.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidProof`] if the proof does not hold, [`Reason::Malformed`] for a message
    /// that is none.
    pub fn answer(
        self,
        verify_key: &[u8; VERIFY_KEY_BYTES],
        message: &[u8],
    ) -> Result<(VerifiedShare, Vec<u8>), Reason> {
        let message = PingPongMessage::get_decoded(message).map_err(|_| Reason::Malformed)?;
        let (state, answer) = self
            .vdaf
            .helper_initialized(
                verify_key,
                &(),
                self.id.as_bytes(),
                &self.public_share,
                &self.input_share,
                &message,
            )
            .and_then(|transition| transition.evaluate(&self.vdaf))
            .map_err(|_| Reason::InvalidProof)?;
        let PingPongState::Finished(output) = state else {
            return Err(Reason::InvalidProof);
        };
        let answer = answer.get_encoded().map_err(|_| Reason::InvalidShare)?;
        Ok((
            VerifiedShare {
                id: self.id,
                output,
            },
            answer,
        ))
    }
}

impl OpenedShare {
    /// Of three: begin preparation. The bytes are this member's prepare share, for the leader.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidProof`] or [`Reason::InvalidShare`].
    pub fn collect(
        self,
        verify_key: &[u8; VERIFY_KEY_BYTES],
    ) -> Result<(BegunShare, Vec<u8>), Reason> {
        let (state, share) = self
            .vdaf
            .prepare_init(
                verify_key,
                self.seat.aggregator_id(),
                &(),
                self.id.as_bytes(),
                &self.public_share,
                &self.input_share,
            )
            .map_err(|_| Reason::InvalidProof)?;
        let share = share.get_encoded().map_err(|_| Reason::InvalidShare)?;
        Ok((
            BegunShare {
                id: self.id,
                vdaf: self.vdaf,
                state,
            },
            share,
        ))
    }
}

/// A member's share of a report of three shares whose proof is being checked.
pub struct BegunShare {
    id: ReportId,
    vdaf: UpdateVdaf,
    state: PrepareState,
}

impl std::fmt::Debug for BegunShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BegunShare({}, redacted)", self.id)
    }
}

impl BegunShare {
    /// The report's id.
    pub fn id(&self) -> ReportId {
        self.id
    }

    /// For this node's own store, until the report is finished.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidShare`] if it cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Reason> {
        self.state.get_encoded().map_err(|_| Reason::InvalidShare)
    }

    /// From this node's own store.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidShare`] for bytes that are none of this task.
    pub fn from_bytes(task: &VerifiedManifest, id: ReportId, bytes: &[u8]) -> Result<Self, Reason> {
        let vdaf = task.vdaf.instance().map_err(|_| Reason::UnknownTask)?;
        // What of the state depends on the seat says so itself.
        let state = PrepareState::get_decoded_with_param(&(&vdaf, 0), bytes)
            .map_err(|_| Reason::InvalidShare)?;
        Ok(Self { id, vdaf, state })
    }

    /// Leader: make the message with which each member finishes of all members' prepare shares, in the order of their
    /// seats.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidProof`] if the proof does not hold, [`Reason::Malformed`] for a share that is none.
    pub fn combine(&self, shares: &[&[u8]]) -> Result<Vec<u8>, Reason> {
        let shares = shares
            .iter()
            .map(|share| PrepareShare::get_decoded_with_param(&self.state, share))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Reason::Malformed)?;
        self.vdaf
            .prepare_shares_to_prepare_message(&(), shares)
            .map_err(|_| Reason::InvalidProof)?
            .get_encoded()
            .map_err(|_| Reason::InvalidShare)
    }

    /// Finish with the message. It must be of the joint randomness that this member has used: then all members have
    /// checked shares of one update.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidProof`] if it is not, [`Reason::Malformed`] for a message that is none.
    pub fn finish(self, message: &[u8]) -> Result<VerifiedShare, Reason> {
        let message = PrepareMessage::get_decoded_with_param(&self.state, message)
            .map_err(|_| Reason::Malformed)?;
        match self.vdaf.prepare_next(self.state, message) {
            Ok(PrepareTransition::Finish(output)) => Ok(VerifiedShare {
                id: self.id,
                output,
            }),
            Ok(PrepareTransition::Continue(..)) | Err(_) => Err(Reason::InvalidProof),
        }
    }
}

/// What a leader keeps of a report while the helper works on it.
pub struct LeaderPending {
    id: ReportId,
    vdaf: UpdateVdaf,
    state: State,
}

impl std::fmt::Debug for LeaderPending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LeaderPending({}, redacted)", self.id)
    }
}

impl LeaderPending {
    /// The report's id.
    pub fn id(&self) -> ReportId {
        self.id
    }

    /// Finish with the helper's answer.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidProof`] if the proof does not hold, [`Reason::Malformed`] for an answer
    /// that is none.
    pub fn finish(self, answer: &[u8]) -> Result<VerifiedShare, Reason> {
        let answer = PingPongMessage::get_decoded(answer).map_err(|_| Reason::Malformed)?;
        match self.vdaf.leader_continued(self.state, &(), &answer) {
            Ok(PingPongContinuedValue::FinishedNoMessage { output_share }) => Ok(VerifiedShare {
                id: self.id,
                output: output_share,
            }),
            Ok(PingPongContinuedValue::WithMessage { .. }) | Err(_) => Err(Reason::InvalidProof),
        }
    }
}

/// This member's share of a report whose proof held at all members.
pub struct VerifiedShare {
    id: ReportId,
    output: OutputShare,
}

impl std::fmt::Debug for VerifiedShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifiedShare({}, redacted)", self.id)
    }
}

impl VerifiedShare {
    /// The report's id.
    pub fn id(&self) -> ReportId {
        self.id
    }

    /// The share for this node's own store, `[d]` field elements; random by itself.
    ///
    /// # Errors
    ///
    /// [`Reason::InvalidShare`] if it cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Reason> {
        self.output.get_encoded().map_err(|_| Reason::InvalidShare)
    }
}
