"""Drawing a RoI with the mouse in a slice view, and what the panel makes of it."""

from __future__ import annotations


def test_placing_a_roi_shows_mask_and_entry(driver):
    volume = driver.add_volume()
    driver.place_roi([20, 20, 0], [52, -10, 0])
    driver.wait_linked()
    driver.app.window.grab().save("/tmp/link.png")
    assert driver.candidates
