"""The comparison of two tokenizers, and what is said of a difference."""

from token_check import CHATS, TEXTS, Difference, Pieces, compare, compare_chats


def ids(text: str) -> list[int]:
    return list(text.encode())


def test_equal_tokenizers_have_no_difference() -> None:
    assert compare(ids, ids) == []


def test_the_first_differing_text_is_shown_with_its_ids() -> None:
    def other(text: str) -> list[int]:
        return [7 if token == ord("ö") or token > 127 else token for token in ids(text)]

    found = compare(ids, other, ["plain", "Größe"])
    assert [str(item) for item in found] == [
        "text 'Größe': from token 2 on Hugging Face has [195, 182, 195, 159, 101], "
        "llama.cpp [7, 7, 7, 7, 101]"
    ]


def test_a_tokenizer_that_loses_a_leading_space_is_found() -> None:
    assert compare(ids, lambda text: ids(text.lstrip(" ")))


def test_a_template_that_trims_is_found() -> None:
    found, rendered = compare_chats(str, lambda chat: str(chat).replace("now?\\n", "now?"))
    assert len(rendered) == len(CHATS)
    assert len(found) == 1
    assert "chat template: Hugging Face renders" in str(found[0])


def test_the_texts_hold_what_goes_wrong() -> None:
    together = "\x00".join(TEXTS)
    for piece in ("  ", "\n\n", "\t", "🙂", "<|im_start|>", "ق", "日", "\u200b", "e\u0301"):
        assert piece in together
    assert "" in TEXTS


MARKED = Pieces({"<|s|>": 1, "<|s|>x": 2}, ids)


def test_markers_are_whole_and_the_longest_comes_first() -> None:
    assert MARKED.encode("a<|s|>x<|s|>b") == [97, 2, 1, 98]


def test_a_marker_that_only_hugging_face_cuts_is_explained() -> None:
    assert MARKED.explains(Difference("text", "<|s|>b", ids("<|s|>b"), [1, 98]))


def test_other_differences_are_not_explained() -> None:
    # llama.cpp cuts the marker; both keep it and the rest differs; llama.cpp has another rest.
    assert not MARKED.explains(Difference("text", "<|s|>b", [1, 98], ids("<|s|>b")))
    assert not MARKED.explains(Difference("text", "<|s|>b", [1, 32, 98], [1, 98]))
    assert not MARKED.explains(Difference("text", "<|s|>b", ids("<|s|>b"), [1, 99]))
