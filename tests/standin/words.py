"""A tokenizer whose tokens are words."""

WORDS = ["naught", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def word_tokenizer(words=WORDS):
    """A tokenizer that knows some words; the number of a word is its token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*words, "<end>"])}, unk_token="<end>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")
