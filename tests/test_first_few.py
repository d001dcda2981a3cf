from vdit.first_few import first_few


def test_it_says_how_many_more_there_are():
    assert first_few([]) == ""
    assert first_few("abcde") == "a, b, c, d, e"
    assert first_few("abcdefg") == "a, b, c, d, e and 2 more"
    assert first_few("ab", most=2, between="; ") == "a; b"
    assert first_few("abc", most=2, between="; ") == "a; b; and 1 more"
