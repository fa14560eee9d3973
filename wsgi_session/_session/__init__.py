"""One session: before its first touch and after its end, its transaction, and the engines that it begins on."""
