"""The sub-word vocabulary of an intent model, learnt from its training part only."""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789'.,?!@#&%$+-*/:;()_"


def train_vocabulary(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn at most `size` WordPiece tokens; [PAD] is id 0 and [UNK] is id 1.

    Any text that is not blank gives at least one token: what no piece spells (another script, emoji, a NUL
    byte) becomes [UNK]. Typographic apostrophes are read as plain ones, digits one by one, case and Unicode
    composition do not matter. The tokenizer neither pads nor truncates: that is up to who calls it.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex("[‘’ʼ]"), "'")]  # noqa: RUF001
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=list(ALPHABET),
        special_tokens=[AddedToken(PAD, special=True), AddedToken(UNKNOWN, special=True)],
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
