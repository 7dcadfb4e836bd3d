"""Words that name no thing in the picture: the picture itself, its manner, its place and time."""

from __future__ import annotations

import re

from attnreg.phrases.closed import word_set

# Words for the picture itself: "a painting of a cat", "a cat, oil painting", "a cat in watercolor".
MEDIA = word_set(
    """painting photo photograph picture drawing sketch image illustration render rendering portrait watercolor
    watercolour artwork art self-portrait poster photography closeup close-up wallpaper screenshot shot selfie
    snapshot depiction still cartoon engraving etching lithograph woodcut collage mosaic mural print doodle graffiti
    up diorama fresco"""
)
# "a pair of dogs" shows dogs.
QUANTITIES = word_set(
    """pair pairs couple group groups lot lots bunch number variety kind kinds type types sort set sets series piece
    pieces herd flock crowd pack swarm school stack pile row rows dozens hundreds thousands millions collection lots
    assortment array handful plenty line trio duo part parts"""
)
# Manner, time and indefinite words: a phrase with such a head names no region of the picture.
NOT_THINGS = word_set(
    """style styles quality resolution detail details focus lighting masterpiece artstation deviantart pixiv behance
    view shot closeup close-up hd uhd hdr raw dslr bokeh render octane unreal cinema4d vray redshift background
    backgrounds foreground backdrop night nighttime day daytime daylight dawn dusk noon midnight morning evening
    afternoon time today hour hours something someone somebody anything anyone nobody nothing none everything everyone
    everybody one ones thing things other others photorealism photorealistic realism hyperrealism realistic cinematic
    aesthetic composition perspective angle symmetry exposure aperture depth solo absurdres highres lowres trending
    trend artgerm rutkowski wlop mucha nsfw sfw vibe mood atmosphere minimalism surrealism impressionism cubism pov
    texture textures contrast colors colours tones vignette isometric monochrome intricate hyperdetailed ray-tracing
    raytracing illumination mid-air midair instagram pinterest flickr unsplash ultra-hd viewer"""
)
# Where nothing else makes a thing of them: "on one side", but "a phone case", "a tank top", "a store front".
ALONE = word_set(
    """way middle mid front back side left right top bottom center centre edge distance shape form addition order air
    case color colour size text word words caption inside outside end row front sides"""
)
# Kinds of pictures, where one stands alone between commas.
GENRES = word_set(
    """vector fantasy sci-fi scifi cyberpunk steampunk horror anime manga vaporwave synthwave gothic baroque wildlife
    nature fashion macro noir retro vintage minimalist abstract chibi kawaii gouache acrylic matte blender ink
    charcoal pastel"""
)
SHOWING = word_set("of showing depicting featuring")
# A tag of several words that ends like a thing: what it says is manner all the same.
MANNER_TAG = re.compile(
    r"""
    (?:\w+\s)*(?:soft|studio|natural|rim|dramatic|volumetric|golden|cinematic|ambient|warm|beautiful|harsh|global|back|
        moody|morning|bright|dim|neon|low|high)\s(?:light|lighting|hour|illumination|shadows|key|angle)
    | (?:\w+\s)*(?:oil|digital|acrylic|matte|concept|pixel|line|vector|fan|key|cover|splash|clip|pop|comic|anime)\s
        (?:art|painting|illustration|drawing|style|cover)
    | (?:oil|acrylic|ink|watercolor|pencil|charcoal|pastel)\son\s(?:canvas|paper|wood|linen)
    | depth\sof\sfield | film\sgrain | rule\sof\sthirds | national\sgeographic | art\s(?:nouveau|deco) | comic\sbook
    | studio\sghibli | low\spoly | ray\stracing | flat\sdesign | hard\sedges | vivid\scolors | high\scontrast
    | (?:unreal\sengine|octane\srender|award\swinning|wide\sangle|ultra\swide|fujifilm|canon|nikon|sony|leica|kodak|
        full\sbody|upper\sbody|lower\sbody|medium\sshot|long\sshot|product\sphoto)\b.*
    | polaroid | (?:best|high|low|worst|good)\squality
    """,
    re.VERBOSE,
)
