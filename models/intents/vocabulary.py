"""The sub-word vocabulary of an intent model, learnt from its training part only."""

from collections.abc import Iterable, Mapping

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1

REBUILT = 0.05
"""What a word of a rebuilt sentence counts beside one that somebody said."""

LONGEST_WORD = 100
"""Characters; a longer word is one unknown token."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789'.,?!@#&%$+-*/:;()_"


def train_vocabulary(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn at most `size` WordPiece tokens; [PAD] is id 0 and [UNK] is id 1.

    Any text that is not blank gives at least one token: what no piece spells (another script, emoji, a NUL
    byte) becomes [UNK]. Typographic apostrophes are read as plain ones, digits one by one, case and Unicode
    composition do not matter. The tokenizer neither pads nor truncates: that is up to who calls it.
    """
    tokenizer = _reader(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD))
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=list(ALPHABET),
        special_tokens=[AddedToken(PAD, special=True), AddedToken(UNKNOWN, special=True)],
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def part_of_vocabulary(
    larger: Mapping[str, int], texts: Iterable[str], size: int, rebuilt: Iterable[str] = ()
) -> Tokenizer:
    """A tokenizer as `train_vocabulary` gives one, whose pieces are those of a larger WordPiece vocabulary that `texts`
    use most, `size` at most: what a larger model knows of them can then be handed on. Letters and digits are always
    among them; a word that is left out is spelt with the pieces that are there. rebuilt: sentences that nobody said,
    whose words count less."""
    whole = _reader(
        models.WordPiece(vocab=dict(larger), unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD)
    )
    counts: dict[str, float] = {}
    for sentences, weight in ((texts, 1.0), (rebuilt, REBUILT)):
        for encoding in whole.encode_batch(list(sentences)):
            for token in encoding.tokens:
                counts[token] = counts.get(token, 0.0) + weight
    counts.pop(UNKNOWN, None)
    used = sorted(counts, key=lambda token: -counts[token])
    letters = [piece for letter in ALPHABET for piece in (letter, f"##{letter}") if piece in larger]
    pieces = [PAD, UNKNOWN, *dict.fromkeys([*letters, *used])][:size]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    part = _reader(
        models.WordPiece(vocab=vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD)
    )
    part.add_special_tokens([AddedToken(PAD, special=True), AddedToken(UNKNOWN, special=True)])
    return part


def _reader(model: models.WordPiece) -> Tokenizer:
    """How text is read before it is cut to pieces: the same for every vocabulary of this kind."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex("[‘’ʼ]"), "'")]  # noqa: RUF001
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    return tokenizer
