"""The browser of the tests: Chromium or Chrome as the machine has it, else the one that Playwright downloads.

`python -m standin.browser` says which one starts, or why none does.
"""

import shutil
import sys
from importlib.util import find_spec

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NoBrowserError(Exception):
    """None can be started; the text says why."""


def started(driver):
    """A browser that Playwright drives.

    Raises:
        NoBrowserError: none starts.
    """
    from playwright.sync_api import Error

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        return driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
    except Error as error:
        raise NoBrowserError(f"{path or 'the browser of Playwright'}: {str(error).splitlines()[0]}") from None


def packages_missing():
    """Which of the packages of the extra `browser` are missing."""
    return [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]


def main():
    """Start it once."""
    if missing := packages_missing():
        sys.exit(f"not installed: {', '.join(missing)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        try:
            browser = started(driver)
        except NoBrowserError as error:
            sys.exit(str(error))
        print(f"{browser.browser_type.name} {browser.version}")
        browser.close()


if __name__ == "__main__":
    main()
